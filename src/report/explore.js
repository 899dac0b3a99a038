// Explores a cube: a map on the left, spectra on the right; a click on the one changes the other.
(async () => {
  const $ = (query) => document.querySelector(query);
  const about = JSON.parse($("#about").textContent);
  const [height, width, channels] = about.shape;
  const { bin } = about;
  const rows = Math.ceil(height / bin), columns = Math.ceil(width / bin);
  const [first, last] = about.energies;
  const dispersion = channels > 1 ? (last - first) / (channels - 1) : 1;
  const energy = (channel) => first + dispersion * channel;
  const channelAt = (ev) => Math.min(channels - 1, Math.max(0, Math.round((ev - first) / dispersion)));

  // What the page holds, unpacked.
  const unpacked = async (name) => {
    const place = $(`[data-blob="${name}"]`);
    if (!place) return null;
    const text = atob(place.textContent);
    place.remove();
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const floats = async (name) => {
    const bytes = await unpacked(name);
    return bytes && new Float32Array(bytes.buffer);
  };
  // All low bytes, then all high ones, of multiples of `step` of the square root; -32768 is nothing.
  const counted = async (name, step) => {
    const bytes = await unpacked(name);
    if (!bytes) return null;
    const size = bytes.length / 2, values = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      const root = ((bytes[size + i] << 24) >> 16) | bytes[i];
      values[i] = root === -32768 ? NaN : root * Math.abs(root) * step * step;
    }
    return values;
  };
  const model = about.model;
  const [counts, each, factors, loadings, score, labelBytes, regionCounts, regionModel] = await Promise.all([
    counted("counts", about.step), counted("model", model.step), floats("factors"), floats("loadings"),
    floats("score"), unpacked("labels"), floats("region-spectra"), floats("region-reconstructions"),
  ]);
  const labels = new Int32Array(labelBytes.buffer);

  // Spectra: of a pixel, as the model has it, of its neighbours, of a region.
  const spectrumOf = (pixel) => counts.subarray(pixel * channels, (pixel + 1) * channels);
  const modelOf = (pixel) => {
    const spectrum = new Float32Array(channels).fill(NaN);
    if (each) {
      spectrum.set(each.subarray(pixel * model.channels, (pixel + 1) * model.channels), model.first);
    } else if (model.components) {
      spectrum.fill(0);
      for (let k = 0; k < model.components; k++) {
        const loading = loadings[pixel * model.components + k];
        for (let e = 0; e < channels; e++) spectrum[e] += loading * factors[k * channels + e];
      }
    }
    return spectrum;
  };
  const mean = (pixels) => {
    const sum = new Float64Array(channels);
    let number = 0;
    for (const pixel of pixels) {
      const spectrum = spectrumOf(pixel);
      if (Number.isNaN(spectrum[0])) continue;
      for (let e = 0; e < channels; e++) sum[e] += spectrum[e];
      number += 1;
    }
    return number ? sum.map((value) => value / number) : null;
  };
  const around = (y, x) => {
    const found = [];
    for (let ny = Math.max(0, y - 1); ny <= Math.min(rows - 1, y + 1); ny++)
      for (let nx = Math.max(0, x - 1); nx <= Math.min(columns - 1, x + 1); nx++)
        if (ny !== y || nx !== x) found.push(ny * columns + nx);
    return found;
  };
  const labelAt = (y, x) => y < height && x < width ? labels[y * width + x] : 0;
  // Pixels without a label within three of a region.
  const aroundRegion = (label) => {
    const near = new Set();
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      if (labelAt(y, x) !== label) continue;
      for (let ny = Math.max(0, y - 3); ny <= Math.min(height - 1, y + 3); ny++)
        for (let nx = Math.max(0, x - 3); nx <= Math.min(width - 1, x + 3); nx++)
          if (!labelAt(ny, nx)) near.add(Math.floor(ny / bin) * columns + Math.floor(nx / bin));
    }
    return near;
  };
  const modelOfRegion = (label) => {
    const sum = new Float64Array(channels);
    let number = 0;
    labels.forEach((other, pixel) => {
      if (other !== label) return;
      modelOf(pixel).forEach((value, e) => { sum[e] += value; });
      number += 1;
    });
    return sum.map((value) => value / number);
  };
  const rowOf = (table, count, label) =>
    table && label <= count ? table.subarray((label - 1) * channels, label * channels) : null;

  // What is chosen.
  const strongest = about.regions[0];
  const windowOf = (region) => about.windows.find(([name]) => name === region?.window)?.[1].map(channelAt);
  const state = {
    region: strongest ? strongest.label : 0,
    a: strongest ? [Math.floor(strongest.y / bin), Math.floor(strongest.x / bin)] : [rows >> 1, columns >> 1],
    b: null, comparing: false, zoomed: false,
    window: windowOf(strongest) ?? about.windows[0]?.[1].map(channelAt) ?? [0, channels - 1],
  };
  const lines = () => {
    const [y, x] = state.a;
    const region = state.region && about.regions.find((region) => region.label === state.region);
    const counted = region && rowOf(regionCounts, about.regionRows[0], state.region);
    if (counted) {
      const kept = rowOf(regionModel, about.regionRows[1], state.region);
      return {
        title: `Region ${region.label}, mean of ${region.area} pixels: ${region.words}`, measured: counted,
        model: kept ?? (bin === 1 ? modelOfRegion(state.region) : null), by: kept ? about.regionsBy : model.by,
        beside: mean(aroundRegion(state.region)), besideWords: "mean around it",
      };
    }
    const name = (y, x) => bin > 1 ? `${bin} × ${bin} pixels from y ${y * bin}, x ${x * bin}` : `Pixel y ${y}, x ${x}`;
    return {
      title: name(y, x), measured: spectrumOf(y * columns + x), model: modelOf(y * columns + x), by: model.by,
      beside: mean(around(y, x)), besideWords: "mean of its neighbours",
      second: state.b && spectrumOf(state.b[0] * columns + state.b[1]), secondWords: state.b && name(...state.b),
    };
  };

  // Sums over the window.
  const sumOf = (spectrum, [from, to]) => {
    let sum = 0;
    for (let e = from; e <= to; e++) sum += spectrum[e];
    return sum;
  };
  const whole = mean([...Array(rows * columns).keys()]) ?? new Float64Array(channels);
  // The power law of the mean spectrum by two areas before the window; its sum there for each count before it.
  const background = ([from, to]) => {
    const length = Math.min(from, Math.max(6, Math.min(to - from + 1, Math.round(channels / 8))));
    if (length < 4 || energy(from - length) <= 0) return null;
    const half = length >> 1, before = [from - 2 * half, from - 1];
    const early = sumOf(whole, [before[0], before[0] + half - 1]), late = sumOf(whole, [from - half, from - 1]);
    const at = [energy(before[0] + (half - 1) / 2), energy(from - (half + 1) / 2)];
    const slope = Math.min(8, Math.max(0, Math.log(early / late) / Math.log(at[1] / at[0])));
    const law = ([from, to]) => {
      let sum = 0;
      for (let e = from; e <= to; e++) sum += energy(e) ** -slope;
      return sum;
    };
    return { before, share: law([from, to]) / law(before) };
  };
  const quantity = () => $("input[name=quantity]:checked").value;
  const mapValues = () => {
    const kind = quantity(), { window } = state, values = new Float32Array(rows * columns);
    if (kind === "score") {
      for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) {
        let most = NaN;
        for (let ny = y * bin; ny < Math.min(height, (y + 1) * bin); ny++)
          for (let nx = x * bin; nx < Math.min(width, (x + 1) * bin); nx++) {
            const value = score[ny * width + nx];
            if (!(most >= value)) most = value;
          }
        values[y * columns + x] = most;
      }
      return values;
    }
    const below = kind === "net" ? background(window) : null;
    const ofFactor = (k) => sumOf(factors.subarray(k * channels, (k + 1) * channels), window);
    const factorSums = kind === "residual" && model.components ? [...Array(model.components).keys()].map(ofFactor) : [];
    for (let pixel = 0; pixel < values.length; pixel++) {
      const spectrum = spectrumOf(pixel);
      let value = sumOf(spectrum, window);
      if (kind === "net") value = below ? value - below.share * sumOf(spectrum, below.before) : NaN;
      if (kind === "residual") {
        if (each) value -= sumOf(modelOf(pixel), window);
        factorSums.forEach((sum, k) => { value -= sum * loadings[pixel * model.components + k]; });
      }
      values[pixel] = value;
    }
    return values;
  };

  const rounded = (value) => Math.abs(value) >= 1e5 ? value.toExponential(1).replace(/e\+?/, "×10^") : `${Number(value.toPrecision(3))}`;
  const odds = (score) => {
    const value = Math.expm1(score);
    if (value < 1e-4) return "no sign";
    const figure = (value) => {
      const power = Math.floor(Math.log10(value));
      return power < 6 ? Number(value.toPrecision(1)) : `${Math.round(value / 10 ** power)}×10^${power}`;
    };
    return value < 1 ? `odds 1 : ${figure(1 / value)}` : `odds ${figure(value)} : 1`;
  };
  const ink = "#222b36", soft = "#5b6672", rule = "#dde2e8";
  const fitted = (canvas, wide, high) => {
    const ratio = window.devicePixelRatio || 1;
    canvas.style.width = `${wide}px`;
    canvas.style.height = `${high}px`;
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(high * ratio);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, wide, high);
    context.font = "11px system-ui, sans-serif";
    return context;
  };

  // The map: colours, outlines of regions, marks of the chosen pixels.
  const map = $("#map"), chart = $("#spectrum");
  let cell = [1, 1];
  const drawMap = () => {
    const values = mapValues(), kind = quantity();
    const finite = values.filter(Number.isFinite).sort();
    const at = (share) => finite[Math.round(share * (finite.length - 1))] ?? 0;
    let [low, high] = kind === "score" && about.isOdds ? [0, Math.max(at(0.999), Math.log(101))] : [at(0.01), at(0.995)];
    if (kind === "residual") low = -(high = Math.max(Math.abs(low), Math.abs(high)));
    const palette = about.colors[kind === "score" ? 0 : kind === "counts" ? 2 : 1];
    const image = new ImageData(columns, rows);
    values.forEach((value, i) => {
      const place = high > low ? (value - low) / (high - low) : 0;
      const color = Number.isNaN(value) ? [176, 176, 176] : palette[Math.round(Math.min(1, Math.max(0, place)) * (palette.length - 1))];
      image.data.set([...color, 255], 4 * i);
    });
    const room = Math.min(map.parentElement.clientWidth, 520);
    const scale = Math.min(room / columns, 520 / rows);
    cell = [Math.max(scale, 24 / rows), Math.max(scale, 24 / columns)];
    const [high_, wide_] = [rows * cell[0], columns * cell[1]];
    const context = fitted(map, wide_, high_);
    const small = new OffscreenCanvas(columns, rows);
    small.getContext("2d").putImageData(image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, wide_, high_);
    const [sy, sx] = [high_ / rows / bin, wide_ / columns / bin];
    context.strokeStyle = "#00d8ff";
    context.lineWidth = 1.5;
    context.beginPath();
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      const label = labelAt(y, x);
      if (label !== (x + 1 < width ? labelAt(y, x + 1) : 0)) { context.moveTo((x + 1) * sx, y * sy); context.lineTo((x + 1) * sx, (y + 1) * sy); }
      if (label !== (y + 1 < height ? labelAt(y + 1, x) : 0)) { context.moveTo(x * sx, (y + 1) * sy); context.lineTo((x + 1) * sx, (y + 1) * sy); }
    }
    context.stroke();
    for (const [mark, color] of [[state.region ? null : state.a, "#fff"], [state.b, "#9dff3c"]]) {
      if (!mark) continue;
      const [y, x] = mark;
      for (const [wide, shade] of [[4, "#000"], [2, color]]) {
        context.lineWidth = wide;
        context.strokeStyle = shade;
        context.strokeRect(x * cell[1] - 1, y * cell[0] - 1, cell[1] + 2, cell[0] + 2);
      }
    }
    const words = { score: about.score, counts: "counts", net: "counts above background", residual: `counts less ${model.by}` };
    const told = kind === "score" && about.isOdds ? odds : rounded;
    const range = state.window.map((channel) => energy(channel).toFixed(1)).join(" to ");
    $("#scale").textContent = finite.length === 0 ? "No background is measured before this window."
      : `${words[kind]}${kind === "score" ? "" : ` in ${range} eV`}: dark ${told(low)}, bright ${told(high)}`;
  };

  // The spectra, with the residual below.
  const margin = { left: 58, right: 10, top: 8, gap: 20, bottom: 34 };
  let view = [0, channels - 1], chartWidth = 1;
  const ticks = (low, high, count) => {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].find((lead) => lead * power >= raw) * power;
    const found = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) found.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
    return found;
  };
  const across = (channel) => margin.left + (channel - view[0]) / Math.max(1, view[1] - view[0]) * (chartWidth - margin.left - margin.right);
  const drawChart = () => {
    const shown = lines();
    const spread = Math.max(10, Math.round(0.8 * (state.window[1] - state.window[0])));
    view = state.zoomed ? [Math.max(0, state.window[0] - spread), Math.min(channels - 1, state.window[1] + spread)] : [0, channels - 1];
    chartWidth = Math.max(260, chart.parentElement.clientWidth);
    const high = Math.min(460, Math.max(320, chartWidth * 0.6));
    const context = fitted(chart, chartWidth, high);
    const residual = shown.model && shown.measured.map((value, e) => value - shown.model[e]);
    const split = residual ? margin.top + 0.62 * (high - margin.top - margin.bottom) : high - margin.bottom;
    const panel = (top, bottom, drawn, zero) => {
      let low = zero ? 0 : Infinity, most = zero ? 0 : -Infinity;
      for (const { values } of drawn) for (let e = view[0]; e <= view[1]; e++) {
        const value = values[e];
        if (value < low) low = value;
        if (value > most) most = value;
      }
      if (!(most > low)) [low, most] = [low - 1 || 0, low + 1 || 1];
      const pad = 0.05 * (most - low);
      [low, most] = [low - pad, most + pad];
      const up = (value) => bottom - (value - low) / (most - low) * (bottom - top);
      context.fillStyle = "rgba(230,159,0,.22)";
      const [left, right] = [across(state.window[0] - 0.5), across(state.window[1] + 0.5)].map((x) => Math.min(chartWidth - margin.right, Math.max(margin.left, x)));
      context.fillRect(left, top, Math.max(1, right - left), bottom - top);
      context.textAlign = "right";
      context.lineWidth = 1;
      for (const tick of ticks(low, most, Math.max(2, (bottom - top) / 45))) {
        context.strokeStyle = rule;
        context.strokeRect(margin.left, up(tick), chartWidth - margin.left - margin.right, 0);
        context.fillStyle = soft;
        context.fillText(rounded(tick), margin.left - 6, up(tick) + 4);
      }
      for (const { values, color, dash } of drawn) {
        context.strokeStyle = color;
        context.lineWidth = 1.4;
        context.setLineDash(dash ?? []);
        context.beginPath();
        let down = false;
        for (let e = view[0]; e <= view[1]; e++) {
          if (Number.isNaN(values[e])) { down = false; continue; }
          context[down ? "lineTo" : "moveTo"](across(e), up(values[e]));
          down = true;
        }
        context.stroke();
        context.setLineDash([]);
      }
    };
    const drawn = [
      { values: shown.beside, color: "#0072b2", words: shown.besideWords, dash: [5, 3] },
      { values: shown.model, color: "#d55e00", words: `model: ${shown.by}` },
      { values: shown.second, color: "#009e73", words: shown.secondWords },
      { values: shown.measured, color: ink, words: "measured" },
    ].filter((line) => line.values);
    panel(margin.top, split, drawn, false);
    if (residual) panel(split + margin.gap, high - margin.bottom, [{ values: residual, color: "#009e73" }], true);
    context.fillStyle = soft;
    context.textAlign = "left";
    if (residual) context.fillText("measured less the model", margin.left + 4, split + margin.gap - 5);
    context.textAlign = "center";
    for (const tick of ticks(energy(view[0]), energy(view[1]), chartWidth / 90))
      context.fillText(`${Number(tick.toPrecision(8))}`, across((tick - first) / dispersion), high - margin.bottom + 15);
    context.fillText("energy loss (eV)", (margin.left + chartWidth) / 2, high - 4);
    $("#keys").replaceChildren(...drawn.reverse().map(({ color, words }) => {
      const key = document.createElement("span"), swatch = document.createElement("i");
      key.className = "key";
      swatch.className = "swatch";
      swatch.style.setProperty("--c", color);
      key.append(swatch, words);
      return key;
    }));
    const inWindow = (spectrum) => rounded(sumOf(spectrum, state.window));
    const expected = shown.model && Number.isFinite(sumOf(shown.model, state.window)) ? `, ${inWindow(shown.model)} by the model` : "";
    const second = shown.second ? `; ${shown.secondWords.toLowerCase()}: ${inWindow(shown.second)}` : "";
    $("#said").textContent = Number.isNaN(shown.measured[0]) ? `${shown.title}: ignored`
      : `${shown.title}. In the window: ${inWindow(shown.measured)} counts${expected}${second}.`;
  };
  const drawWindow = () => {
    $("#from").value = energy(state.window[0]).toFixed(2);
    $("#to").value = energy(state.window[1]).toFixed(2);
    drawChart();
    drawMap();
  };
  let asked = false;
  const soon = () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; drawWindow(); });
  };

  // What the reader does.
  const choose = (y, x) => {
    [y, x] = [Math.min(rows - 1, Math.max(0, y)), Math.min(columns - 1, Math.max(0, x))];
    state.region = 0;
    if (state.comparing) state.b = [y, x]; else state.a = [y, x];
    drawChart();
    drawMap();
  };
  const chooseRegion = (label) => {
    const region = about.regions.find((region) => region.label === label);
    state.region = label;
    state.a = [Math.floor(region.y / bin), Math.floor(region.x / bin)];
    state.window = windowOf(region) ?? state.window;
    drawWindow();
  };
  const setWindow = (from, to) => {
    const clip = (channel) => Math.min(channels - 1, Math.max(0, channel));
    state.window = [clip(Math.min(from, to)), clip(Math.max(from, to))];
    // A window says nothing of the score.
    if (quantity() === "score") $("input[value=counts]").checked = true;
    soon();
  };
  map.addEventListener("pointerdown", (event) => {
    const box = map.getBoundingClientRect();
    choose(Math.floor((event.clientY - box.top) / box.height * rows), Math.floor((event.clientX - box.left) / box.width * columns));
  });
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  map.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const from = state.comparing && state.b ? state.b : state.a;
    choose(from[0] + step[0], from[1] + step[1]);
  });
  const channelOf = (event) => {
    const box = chart.getBoundingClientRect();
    const share = (event.clientX - box.left - margin.left) / (box.width - margin.left - margin.right);
    return Math.round(view[0] + Math.min(1, Math.max(0, share)) * (view[1] - view[0]));
  };
  let dragged = null;
  chart.addEventListener("pointerdown", (event) => {
    dragged = channelOf(event);
    chart.setPointerCapture(event.pointerId);
  });
  chart.addEventListener("pointermove", (event) => {
    if (dragged !== null && channelOf(event) !== dragged) setWindow(dragged, channelOf(event));
  });
  for (const end of ["pointerup", "pointercancel"]) chart.addEventListener(end, () => { dragged = null; });
  chart.addEventListener("keydown", (event) => {
    const [from, to] = state.window;
    const moves = { ArrowLeft: [-1, -1], ArrowRight: [1, 1], "+": [-1, 1], "-": [1, -1] };
    const move = moves[event.key];
    if (!move || (event.key === "-" && to - from < 2)) return;
    event.preventDefault();
    setWindow(from + move[0], to + move[1]);
  });
  for (const end of ["#from", "#to"])
    $(end).addEventListener("change", () => setWindow(channelAt(Number($("#from").value)), channelAt(Number($("#to").value))));
  for (const button of document.querySelectorAll("[data-window]"))
    button.addEventListener("click", () => setWindow(...about.windows[Number(button.dataset.window)][1].map(channelAt)));
  for (const button of document.querySelectorAll("[data-region]"))
    button.addEventListener("click", () => chooseRegion(Number(button.dataset.region)));
  for (const input of document.querySelectorAll("input[name=quantity]")) input.addEventListener("change", drawMap);
  const toggle = (id, change) => $(id).addEventListener("click", () => {
    $(id).setAttribute("aria-pressed", change());
    drawWindow();
  });
  toggle("#zoom", () => (state.zoomed = !state.zoomed));
  toggle("#compare", () => {
    state.comparing = !state.comparing;
    if (!state.comparing) state.b = null;
    return state.comparing;
  });
  addEventListener("resize", soon);
  const linked = location.hash.match(/^#region-(\d+)$/);
  if (linked && about.regions.some((region) => region.label === Number(linked[1]))) chooseRegion(Number(linked[1]));
  drawWindow();
  document.body.dataset.ready = "yes";
})();
