// The table of a ranking: sorted by its heads, filtered by words; rows are made as they are scrolled to.
(() => {
  const table = document.querySelector("#ranking");
  const cubes = JSON.parse(document.querySelector("#cubes").textContent);
  const [filter, count] = ["#filter", "#count"].map((id) => document.querySelector(id));
  const texts = cubes.map((row) => row.flat().join(" ").toLowerCase());
  const AT_ONCE = 100;
  let shown = [], made = 0, by = 0, downwards = false;
  const body = table.tBodies[0];
  const cell = (value, isNumber) => {
    const cell = document.createElement("td");
    if (isNumber) cell.className = "n";
    if (Array.isArray(value)) {
      const link = document.createElement("a");
      [link.textContent, link.href] = value;
      cell.append(link);
    } else cell.textContent = value;
    return cell;
  };
  const more = () => {
    const rows = shown.slice(made, made + AT_ONCE).map((i) => {
      const row = document.createElement("tr");
      row.append(...cubes[i].map((value) => cell(value, typeof value === "number")));
      return row;
    });
    made += rows.length;
    body.append(...rows);
  };
  const fill = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    shown = [...texts.keys()].filter((i) => words.every((word) => texts[i].includes(word)));
    const value = (i) => Array.isArray(cubes[i][by]) ? cubes[i][by][0] : cubes[i][by];
    const order = (a, b) => typeof value(a) === "number" ? value(a) - value(b) : String(value(a)).localeCompare(value(b));
    shown.sort((a, b) => (downwards ? -1 : 1) * order(a, b) || a - b);
    count.textContent = `${shown.length} of ${cubes.length} cubes`;
    made = 0;
    body.replaceChildren();
    table.parentElement.scrollTop = 0;
    more();
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, i) => head.querySelector("button").addEventListener("click", () => {
    // Numbers are wanted from the highest down first, ranks and names from the first on.
    downwards = by === i ? !downwards : i > 0 && typeof cubes[0]?.[i] === "number";
    by = i;
    heads.forEach((other, k) => other.setAttribute("aria-sort", k !== i ? "none" : downwards ? "descending" : "ascending"));
    fill();
  }));
  filter.addEventListener("input", fill);
  new IntersectionObserver((seen) => { if (seen[0].isIntersecting) more(); }, { root: document.querySelector(".scroll"), rootMargin: "600px" }).observe(document.querySelector("#end"));
  fill();
})();
