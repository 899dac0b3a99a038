//! The core-loss edges of the elements between 50 and 2000 eV.
//!
//! A pair of edges that straddles an end of that range is in the table whole. Lithium is the lightest element with an
//! edge in the range: hydrogen and helium have theirs below it.

use std::sync::LazyLock;

/// One edge of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ElementEdge {
    pub atomic_number: usize,
    /// `O`, `Fe`, ...
    pub element: &'static str,
    /// The shell that loses an electron: `K`, `L3`, `M5`, ...
    pub shell: &'static str,
    pub onset_ev: f64,
    /// Strong or sharp enough to measure this element by.
    pub is_major: bool,
}

impl ElementEdge {
    /// As microscopists write it: `Fe L3`.
    pub fn name(&self) -> String {
        format!("{} {}", self.element, self.shell)
    }

    /// Whether transitions into a partly filled d or f shell give it a narrow line at its onset.
    pub fn has_white_line(&self) -> bool {
        match self.shell {
            // Calcium to copper: copper has one in its oxides.
            "L2" | "L3" => (20..=29).contains(&self.atomic_number),
            // Caesium to ytterbium.
            "M4" | "M5" => (55..=70).contains(&self.atomic_number),
            _ => false,
        }
    }
}

/// Element by element from hydrogen: the major edges, `|`, the minor ones; onsets in eV.
///
/// # Source
/// Electron binding energies of the X-ray Data Booklet (LBNL, sec. 1.1: Bearden & Burr 1967; Cardona & Ley 1978; Fuggle
/// & Martensson 1980), rounded. Where spectra of solids start elsewhere (K of N, O and F, which are tabulated as gases,
/// and L2,3 and M4,5 edges with strong excitons) the onsets, and everywhere the choice of the major edges, follow Ahn &
/// Krivanek, EELS Atlas (Gatan, 1983).
const TABLE: &str = "
H  K 14
He K 25
Li K 55
Be K 111
B  K 188
C  K 284
N  K 401
O  K 532
F  K 685
Ne K 867
Na K 1072 | L1 63
Mg K 1305 L3 51 L2 52 | L1 89
Al K 1560 L3 73 L2 74 | L1 118
Si K 1839 L3 99 L2 100 | L1 149
P  L3 132 L2 133 | L1 189
S  L3 165 L2 166 | L1 229
Cl L3 200 L2 202 | L1 270
Ar L3 245 L2 247 | L1 320
K  L3 294 L2 297 | L1 377
Ca L3 346 L2 350 | L1 438
Sc L3 402 L2 407 | L1 500 M1 51
Ti L3 456 L2 462 | L1 564 M1 59
V  L3 513 L2 521 | L1 628 M1 66
Cr L3 575 L2 584 | L1 695 M1 74
Mn L3 640 L2 651 | L1 769 M1 82 M2 51 M3 51
Fe L3 708 L2 721 | L1 846 M1 91 M2 54 M3 54
Co L3 779 L2 794 | L1 926 M1 101 M2 59 M3 59
Ni L3 855 L2 872 | L1 1008 M1 111 M2 68 M3 66
Cu L3 931 L2 951 | L1 1096 M1 122 M2 77 M3 75
Zn L3 1020 L2 1043 | L1 1194 M1 140 M2 91 M3 89
Ga L3 1115 L2 1142 | L1 1298 M1 160 M2 104 M3 100
Ge L3 1217 L2 1248 | L1 1414 M1 180 M2 125 M3 121
As L3 1323 L2 1359 | L1 1527 M1 204 M2 146 M3 141
Se L3 1436 L2 1476 M5 55 M4 56 | L1 1654 M1 230 M2 166 M3 161
Br L3 1550 L2 1596 M5 69 M4 70 | L1 1782 M1 257 M2 189 M3 182
Kr L3 1675 L2 1727 M5 89 M4 90 | L1 1921 M1 289 M2 222 M3 214
Rb L3 1804 L2 1864 M5 110 M4 111 | M1 322 M2 248 M3 239
Sr L3 1940 L2 2007 M5 133 M4 135 | M1 358 M2 280 M3 269
Y  M5 157 M4 159 | M1 394 M2 312 M3 300
Zr M5 180 M4 182 | M1 430 M2 344 M3 330 N1 51
Nb M5 203 M4 206 | M1 467 M2 377 M3 361 N1 56
Mo M5 228 M4 231 | M1 506 M2 411 M3 393 N1 63
Tc M5 253 M4 257 | M1 544 M2 445 M3 425 N1 69
Ru M5 280 M4 284 | M1 586 M2 483 M3 461 N1 75
Rh M5 307 M4 312 | M1 628 M2 521 M3 496 N1 81 N2 51
Pd M5 335 M4 340 | M1 671 M2 560 M3 532 N1 87 N2 56 N3 51
Ag M5 368 M4 374 | M1 718 M2 603 M3 572 N1 97 N2 64 N3 58
Cd M5 405 M4 411 | M1 771 M2 652 M3 617 N1 109 N2 67 N3 64
In M5 443 M4 451 | M1 826 M2 702 M3 664 N1 122 N2 77 N3 74
Sn M5 485 M4 493 | M1 884 M2 756 M3 714 N1 137 N2 89 N3 84
Sb M5 528 M4 537 | M1 945 M2 812 M3 766 N1 153 N2 99 N3 96
Te M5 572 M4 582 | M1 1006 M2 870 M3 819 N1 169 N2 110 N3 103
I  M5 620 M4 631 | M1 1072 M2 931 M3 875 N1 186 N2 123 N3 123 N4 51 N5 50
Xe M5 674 M4 687 | M1 1146 M2 1000 M3 939 N1 213 N2 147 N3 146 N4 69 N5 67
Cs M5 726 M4 740 | M1 1215 M2 1067 M3 1000 N1 232 N2 172 N3 161 N4 79 N5 77
Ba M5 781 M4 796 N5 90 N4 93 | M1 1293 M2 1137 M3 1062 N1 253 N2 192 N3 179
La M5 832 M4 849 N5 102 N4 105 | M1 1361 M2 1206 M3 1125 N1 273 N2 206 N3 194
Ce M5 883 M4 901 N5 108 N4 110 | M1 1435 M2 1273 M3 1186 N1 290 N2 222 N3 207
Pr M5 931 M4 951 N5 113 N4 115 | M1 1511 M2 1337 M3 1242 N1 305 N2 236 N3 218
Nd M5 978 M4 1000 N5 118 N4 121 | M1 1575 M2 1403 M3 1297 N1 317 N2 244 N3 225
Pm M5 1027 M4 1052 N5 120 N4 122 | M1 1646 M2 1471 M3 1357 N1 331 N2 255 N3 237
Sm M5 1080 M4 1106 N5 129 N4 130 | M1 1723 M2 1541 M3 1420 N1 346 N2 266 N3 248
Eu M5 1130 M4 1160 N5 128 N4 133 | M1 1800 M2 1614 M3 1481 N1 360 N2 284 N3 257
Gd M5 1186 M4 1218 N5 140 N4 143 | M1 1881 M2 1688 M3 1544 N1 377 N2 289 N3 271
Tb M5 1241 M4 1276 N5 148 N4 150 | M1 1968 M2 1768 M3 1611 N1 397 N2 317 N3 285
Dy M5 1294 M4 1332 N5 153 N4 154 | M2 1842 M3 1676 N1 415 N2 334 N3 293
Ho M5 1351 M4 1391 N5 160 N4 161 | M2 1923 M3 1741 N1 434 N2 344 N3 308
Er M5 1409 M4 1453 N5 167 N4 168 | M2 2006 M3 1812 N1 449 N2 366 N3 320
Tm M5 1468 M4 1515 N5 175 N4 177 | M3 1885 N1 471 N2 386 N3 333 O1 55
Yb M5 1528 M4 1576 N5 182 N4 191 | M3 1950 N1 481 N2 389 N3 340 O1 52
Lu M5 1588 M4 1640 | M3 2024 N1 507 N2 412 N3 359 N4 206 N5 196 O1 57
Hf M5 1662 M4 1716 | N1 538 N2 438 N3 381 N4 220 N5 212 O1 64
Ta M5 1735 M4 1793 | N1 563 N2 463 N3 401 N4 238 N5 226 O1 70
W  M5 1809 M4 1872 | N1 594 N2 490 N3 424 N4 256 N5 244 O1 76
Re M5 1883 M4 1949 | N1 625 N2 519 N3 447 N4 274 N5 260 O1 83
Os M5 1960 M4 2031 | N1 656 N2 548 N3 470 N4 291 N5 277 N6 53 N7 51 O1 84 O2 58
Ir N5 296 N4 312 | N1 691 N2 578 N3 496 N6 64 N7 61 O1 95 O2 63
Pt N5 315 N4 332 | N1 724 N2 609 N3 519 N6 74 N7 71 O1 102 O2 65 O3 52
Au N5 335 N4 353 | N1 760 N2 643 N3 546 N6 88 N7 84 O1 107 O2 74 O3 57
Hg N5 359 N4 378 | N1 801 N2 679 N3 575 N6 104 N7 100 O1 124 O2 83 O3 65
Tl N5 385 N4 406 | N1 846 N2 721 N3 609 N6 122 N7 118 O1 136 O2 97 O3 74
Pb N5 413 N4 435 | N1 893 N2 762 N3 644 N6 142 N7 137 O1 147 O2 106 O3 84
Bi N5 440 N4 464 | N1 939 N2 805 N3 679 N6 162 N7 157 O1 159 O2 118 O3 93
Po N5 473 N4 500 | N1 995 N2 851 N3 705 N6 184 N7 184 O1 177 O2 132 O3 104
At N5 507 N4 533 | N1 1042 N2 886 N3 740 N6 210 N7 210 O1 195 O2 148 O3 115
Rn N5 541 N4 567 | N1 1097 N2 929 N3 768 N6 238 N7 238 O1 214 O2 164 O3 127
Fr N5 577 N4 603 | N1 1153 N2 980 N3 810 N6 268 N7 268 O1 234 O2 182 O3 140 O4 58 O5 58
Ra N5 603 N4 636 | N1 1208 N2 1058 N3 879 N6 299 N7 299 O1 254 O2 200 O3 153 O4 68 O5 68
Ac N5 639 N4 675 | N1 1269 N2 1080 N3 890 N6 319 N7 319 O1 272 O2 215 O3 167 O4 80 O5 80
Th N5 676 N4 713 O5 85 O4 93 | N1 1330 N2 1168 N3 967 N6 343 N7 334 O1 290 O2 229 O3 182
Pa N5 708 N4 743 O5 94 O4 94 | N1 1387 N2 1224 N3 1007 N6 371 N7 360 O1 310 O2 232
U  N5 738 N4 779 O5 94 O4 103 | N1 1440 N2 1272 N3 1044 N6 389 N7 379 O1 322 O2 258 O3 193
";

static EDGES: LazyLock<Vec<ElementEdge>> = LazyLock::new(|| {
    let lines = TABLE.lines().filter(|line| !line.is_empty());
    lines.zip(1..).flat_map(|(line, atomic_number)| edges_of(line, atomic_number)).collect()
});

fn edges_of(line: &'static str, atomic_number: usize) -> Vec<ElementEdge> {
    let (major, minor) = line.split_once('|').unwrap_or((line, ""));
    let mut words = major.split_whitespace();
    let element = words.next().unwrap_or_default();
    let major: Vec<&str> = words.collect();
    let minor: Vec<&str> = minor.split_whitespace().collect();
    let edge = |pair: &[&'static str], is_major| ElementEdge {
        atomic_number,
        element,
        shell: pair[0],
        onset_ev: pair[1].parse().expect("an onset is a number"),
        is_major,
    };
    let major = major.chunks(2).map(|pair| edge(pair, true));
    major.chain(minor.chunks(2).map(|pair| edge(pair, false))).collect()
}

/// Every edge of the table, by atomic number, the major ones of each element first.
pub fn edges() -> &'static [ElementEdge] {
    &EDGES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onset(element: &str, shell: &str) -> f64 {
        (edges().iter())
            .find(|edge| edge.element == element && edge.shell == shell)
            .unwrap_or_else(|| panic!("no {element} {shell}"))
            .onset_ev
    }

    #[test]
    fn every_element_up_to_uranium_has_a_major_edge() {
        for atomic_number in 1..=92 {
            let own: Vec<&ElementEdge> = edges().iter().filter(|edge| edge.atomic_number == atomic_number).collect();
            assert!(own.iter().any(|edge| edge.is_major), "{atomic_number}");
            let in_range = |edge: &&ElementEdge| (50.0..=2000.0).contains(&edge.onset_ev);
            assert!(atomic_number < 3 || own.iter().any(|edge| edge.is_major && in_range(edge)), "{atomic_number}");
        }
        assert_eq!(edges().last().map(|edge| edge.element), Some("U"));
        assert!(edges().iter().all(|edge| edge.onset_ev < 2050.0));
    }

    #[test]
    fn well_known_onsets() {
        for (element, shell, onset_ev) in [
            ("Li", "K", 55.0),
            ("B", "K", 188.0),
            ("C", "K", 284.0),
            ("N", "K", 401.0),
            ("O", "K", 532.0),
            ("F", "K", 685.0),
            ("Mg", "K", 1305.0),
            ("Al", "K", 1560.0),
            ("Si", "K", 1839.0),
            ("Si", "L3", 99.0),
            ("Ca", "L3", 346.0),
            ("Ti", "L3", 456.0),
            ("V", "L3", 513.0),
            ("Cr", "L3", 575.0),
            ("Mn", "L3", 640.0),
            ("Fe", "L3", 708.0),
            ("Co", "L3", 779.0),
            ("Ni", "L3", 855.0),
            ("Cu", "L3", 931.0),
            ("Sr", "L3", 1940.0),
            ("Ba", "M5", 781.0),
            ("La", "M5", 832.0),
            ("Ce", "M5", 883.0),
            ("Hf", "M5", 1662.0),
            ("Bi", "N5", 440.0),
        ] {
            assert_eq!(onset(element, shell), onset_ev, "{element} {shell}");
        }
    }

    /// Within an element a deeper shell binds harder; from one element to the next each shell binds harder.
    #[test]
    fn onsets_rise_with_depth_and_atomic_number() {
        let order = ["K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5", "N1", "N2", "N3", "N4", "O1", "O2", "O3"];
        let depth = |edge: &ElementEdge| order.iter().position(|shell| *shell == edge.shell);
        for (a, b) in edges().iter().flat_map(|a| edges().iter().map(move |b| (a, b))) {
            if a.atomic_number == b.atomic_number
                && let (Some(deep), Some(shallow)) = (depth(a), depth(b))
            {
                assert!(deep >= shallow || a.onset_ev >= b.onset_ev, "{a:?} {b:?}");
                assert!(deep != shallow || a == b, "twice: {a:?}");
            }
            // Filled 4d and 5d shells of neighbours cross within an eV or two.
            if a.atomic_number + 1 == b.atomic_number && a.shell == b.shell {
                assert!(b.onset_ev > a.onset_ev - 4.0, "{a:?} {b:?}");
            }
        }
    }
}
