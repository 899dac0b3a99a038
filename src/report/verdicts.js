// Verdicts on regions: kept in this browser, saved as verdicts.yaml.
(() => {
  const about = document.querySelector("#verdict-data");
  if (!about) return;
  const regions = JSON.parse(about.textContent);
  const keyOf = (region) => `coreloss verdict ${region.fingerprint} ${region.region} ${region.rows} ${region.columns}`;
  // A browser may keep nothing, of files or in private windows: then the verdicts last as long as the page.
  const kept = new Map();
  const load = (key) => {
    try { return JSON.parse(localStorage.getItem(key)); } catch { return kept.get(key); }
  };
  const keep = (key, value) => {
    kept.set(key, value);
    try { value ? localStorage.setItem(key, JSON.stringify(value)) : localStorage.removeItem(key); } catch { /* as said */ }
  };
  const places = [...document.querySelectorAll("[data-verdict]")];
  const fields = (place) => [place.querySelector("select"), place.querySelector("input")];
  const given = () => regions.map((region) => [region, load(keyOf(region))]).filter(([, given]) => given?.verdict);
  const button = document.querySelector("#save-verdicts");
  const show = () => {
    for (const place of places) {
      const [select, note] = fields(place);
      const now = load(keyOf(regions[Number(place.dataset.verdict)])) ?? {};
      select.value = now.verdict ? `${now.verdict}${now.at ? ` ${now.at}` : ""}` : "";
      note.value = now.note ?? "";
      note.hidden = !now.verdict;
    }
    const count = given().length;
    button.disabled = count === 0;
    button.textContent = count === 0 ? "no verdicts yet" : `save ${count} verdict${count === 1 ? "" : "s"} as verdicts.yaml`;
  };
  for (const place of places) {
    const [select, note] = fields(place);
    place.addEventListener("change", () => {
      const [verdict, at] = select.value.split(" ");
      const date = new Date().toISOString().slice(0, 10);
      keep(keyOf(regions[Number(place.dataset.verdict)]), verdict ? { verdict, at, note: note.value, date } : null);
      show();
    });
  }
  // JSON is YAML: one line for each verdict.
  const file = () => {
    const lines = given().map(([region, given]) => {
      const verdict = { ...region, ...given };
      for (const key of Object.keys(verdict)) if (verdict[key] === null || verdict[key] === "" || verdict[key] === undefined) delete verdict[key];
      return `- ${JSON.stringify(verdict)}\n`;
    });
    return `verdicts:\n${lines.join("")}`;
  };
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([file()], { type: "application/yaml" }));
    link.download = "verdicts.yaml";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });
  show();
})();
