// Says what lies below the pointer: a map's pixel and value, a chart's place on its axis.
(() => {
  const words = document.createElement("div");
  words.className = "readout";
  words.hidden = true;
  document.body.append(words);

  // A map holds no values but its colours: the PNG's own palette tells a colour's place between the ends.
  const pictures = new Map();
  const opened = (image) => {
    if (!pictures.has(image)) {
      const bytes = atob(image.href.baseVal.split(",")[1]);
      const palette = bytes.indexOf("PLTE") + 4;
      const shades = Number(image.ownerSVGElement.dataset.shades);
      const found = { shades: new Map(), last: shades - 1 };
      for (let i = 0; i < shades; i++) found.shades.set(bytes.substr(palette + 3 * i, 3), i);
      const picture = new Image();
      picture.onload = () => {
        const canvas = new OffscreenCanvas(picture.width, picture.height);
        found.context = canvas.getContext("2d", { willReadFrequently: true });
        found.context.drawImage(picture, 0, 0);
      };
      picture.src = image.href.baseVal;
      pictures.set(image, found);
    }
    return pictures.get(image);
  };
  // Scores are ln(1 + odds).
  const odds = (score) => {
    const odds = Math.expm1(score);
    if (odds < 1e-4) return "no sign of an anomaly";
    const figure = (value) => {
      const power = Math.floor(Math.log10(value));
      return power < 6 ? Number(value.toPrecision(1)) : `${Math.round(value / 10 ** power)}×10^${power}`;
    };
    return odds < 1 ? `odds 1 : ${figure(1 / odds)}` : `odds ${figure(odds)} : 1`;
  };
  const rounded = (value) => Number(value.toPrecision(4)).toString();

  const ofMap = (image, event) => {
    const { pixel, span } = image.ownerSVGElement.dataset;
    const [high, wide, factor] = pixel.split(" ").map(Number);
    const box = image.getBoundingClientRect();
    const at = (offset, length, drawn, size) =>
      Math.min(Math.floor(offset / length * drawn / size), drawn / size - 1);
    const y = at(event.clientY - box.top, box.height, image.height.baseVal.value, high);
    const x = at(event.clientX - box.left, box.width, image.width.baseVal.value, wide);
    const place = `y ${y * factor}, x ${x * factor}`;
    const { context, shades, last } = opened(image);
    if (!context || !span) return place;
    const color = context.getImageData((x + 0.5) * wide, (y + 0.5) * high, 1, 1).data;
    const shade = shades.get(String.fromCharCode(...color.slice(0, 3)));
    if (shade === undefined) return place;
    const [low, top, lower, higher] = span.split(" ").map(Number);
    const beyond = shade === 0 && lower ? "≤ " : shade === last && higher ? "≥ " : "";
    const value = low + (top - low) * shade / last;
    return `${place}: ${beyond}${image.ownerSVGElement.dataset.odds === undefined ? rounded(value) : odds(value)}`;
  };

  const ofChart = (chart, event) => {
    const [left, right, low, high] = chart.dataset.axis.split(" ").map(Number);
    const box = chart.getBoundingClientRect();
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    return share < 0 || share > 1 ? "" : `${chart.dataset.words} ${rounded(low + share * (high - low))}`;
  };

  document.addEventListener("mousemove", (event) => {
    const image = event.target.closest?.("svg[data-pixel] image");
    const chart = event.target.closest?.("svg[data-axis]");
    words.textContent = image ? ofMap(image, event) : chart ? ofChart(chart, event) : "";
    words.hidden = !words.textContent;
    words.style.left = `${event.pageX + 14}px`;
    words.style.top = `${event.pageY + 14}px`;
  });
})();
