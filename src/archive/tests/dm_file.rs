//! Writes Gatan files with all that the reader looks at.

pub(super) enum Node {
    Group(Vec<(&'static str, Node)>),
    U32(u32),
    F32(f32),
    Text(String),
    /// Code of the element type, bytes of one element, and all bytes.
    Array(u64, usize, Vec<u8>),
    /// Any encoding, with any bytes.
    Raw(Vec<u64>, Vec<u8>),
}

pub(super) fn text(text: &str) -> Node {
    Node::Text(text.into())
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// 3 or 4.
    pub version: u32,
    pub little: bool,
}

impl Form {
    pub const ALL: [Form; 4] = [
        Form { version: 3, little: true },
        Form { version: 3, little: false },
        Form { version: 4, little: true },
        Form { version: 4, little: false },
    ];

    pub fn file(self, root: &Node) -> Vec<u8> {
        let body = self.content(root);
        let mut bytes = self.version.to_be_bytes().to_vec();
        bytes.extend(self.word(body.len() as u64));
        bytes.extend((self.little as u32).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    /// `value` in the byte order of this file.
    pub fn ordered<const N: usize>(self, mut little_endian: [u8; N]) -> [u8; N] {
        if !self.little {
            little_endian.reverse();
        }
        little_endian
    }

    fn word(self, value: u64) -> Vec<u8> {
        if self.version == 4 { value.to_be_bytes().to_vec() } else { (value as u32).to_be_bytes().to_vec() }
    }

    fn entry(self, encoding: &[u64], data: &[u8]) -> Vec<u8> {
        let mut bytes = b"%%%%".to_vec();
        bytes.extend(self.word(encoding.len() as u64));
        for &word in encoding {
            bytes.extend(self.word(word));
        }
        bytes.extend(data);
        bytes
    }

    fn content(self, node: &Node) -> Vec<u8> {
        match node {
            Node::Group(members) => {
                let mut bytes = vec![1, 0];
                bytes.extend(self.word(members.len() as u64));
                for (name, member) in members {
                    let content = self.content(member);
                    bytes.push(if matches!(member, Node::Group(_)) { 20 } else { 21 });
                    bytes.extend((name.len() as u16).to_be_bytes());
                    bytes.extend(name.as_bytes());
                    if self.version == 4 {
                        bytes.extend((content.len() as u64).to_be_bytes());
                    }
                    bytes.extend(content);
                }
                bytes
            }
            Node::U32(value) => self.entry(&[5], &self.ordered(value.to_le_bytes())),
            Node::F32(value) => self.entry(&[6], &self.ordered(value.to_le_bytes())),
            Node::Text(text) => {
                let units = text.encode_utf16();
                let bytes: Vec<u8> = units.flat_map(|unit| self.ordered(unit.to_le_bytes())).collect();
                self.entry(&[20, 4, bytes.len() as u64 / 2], &bytes)
            }
            Node::Array(code, size, bytes) => self.entry(&[20, *code, (bytes.len() / size) as u64], bytes),
            Node::Raw(encoding, bytes) => self.entry(encoding, bytes),
        }
    }
}

/// One image to write: sizes and (origin, scale, units) per dimension, the fastest first.
pub(super) struct Spec {
    pub title: &'static str,
    pub data_type: u32,
    pub sizes: Vec<u32>,
    pub axes: Vec<(f32, f32, &'static str)>,
    pub signal: &'static str,
    pub format: &'static str,
    pub data: Node,
}

impl Spec {
    pub fn node(self) -> Node {
        let sizes = self.sizes.iter().map(|&size| ("", Node::U32(size)));
        let axes = self.axes.iter().map(|&(origin, scale, units)| {
            let axis = vec![("Origin", Node::F32(origin)), ("Scale", Node::F32(scale)), ("Units", text(units))];
            ("", Node::Group(axis))
        });
        let brightness = vec![("Origin", Node::F32(2.0)), ("Scale", Node::F32(0.5)), ("Units", text("e-"))];
        let calibrations = vec![("Brightness", Node::Group(brightness)), ("Dimension", Node::Group(axes.collect()))];
        let meta = vec![("Format", text(self.format)), ("Signal", text(self.signal))];
        // As dual acquisitions tag their low-loss half.
        let dual = ("Is dual acquire low-loss", Node::U32(u32::from(self.title == "dual low loss")));
        let acquisition = vec![("Acquisition", Node::Group(vec![dual]))];
        let tags = vec![
            ("Meta Data", Node::Group(meta)),
            ("Microscope Info", Node::Group(vec![("Voltage", Node::F32(2e5))])),
            ("EELS", Node::Group(acquisition)),
        ];
        let data = vec![
            ("Calibrations", Node::Group(calibrations)),
            ("Data", self.data),
            ("DataType", Node::U32(self.data_type)),
            ("Dimensions", Node::Group(sizes.collect())),
        ];
        Node::Group(vec![
            ("ImageData", Node::Group(data)),
            ("ImageTags", Node::Group(tags)),
            ("Name", text(self.title)),
        ])
    }
}

/// A file of a thumbnail and `images`.
pub(super) fn document(images: Vec<Spec>) -> Node {
    let thumbnail = Spec {
        title: "",
        data_type: 23,
        sizes: vec![2, 1],
        axes: vec![],
        signal: "",
        format: "",
        data: Node::Array(3, 4, vec![7; 8]),
    };
    let mut list = vec![("", thumbnail.node())];
    list.extend(images.into_iter().map(|image| ("", image.node())));
    let rectangle = Node::Raw(vec![15, 0, 2, 0, 2, 0, 6], vec![0; 6]);
    let palette = Node::Raw(vec![20, 15, 0, 2, 0, 2, 0, 2, 3], vec![0; 12]);
    Node::Group(vec![
        ("Bounds", rectangle),
        ("CLUT", palette),
        ("ImageList", Node::Group(list)),
        ("Thumbnails", Node::Group(vec![("", Node::Group(vec![("ImageIndex", Node::U32(0))]))])),
    ])
}

const PLACE: (f32, f32, &str) = (4.0, 0.5, "nm");

/// A spectrum image of uint16 stored `[energy, y, x]`, whose values count upwards in that order; energy from `first` eV.
pub(super) fn energy_first(form: Form, title: &'static str, [ne, ny, nx]: [u32; 3], first: f32) -> Spec {
    let values = (0..ne * ny * nx).flat_map(|i| form.ordered((i as u16).to_le_bytes()));
    Spec {
        title,
        data_type: 10,
        sizes: vec![nx, ny, ne],
        axes: vec![PLACE, PLACE, (-first / 0.5, 0.5, "eV")],
        signal: "EELS",
        format: "Spectrum image",
        data: Node::Array(4, 2, values.collect()),
    }
}
