"use strict";
(function () {
  const read = name => JSON.parse((document.getElementById(name) || { textContent: "[]" }).textContent || "[]");
  const shared = read("shared-volumes"), patients = read("patient-volumes");
  const volumes = shared.map((each, place) => Object.assign({}, each, patients[place] || {})).filter(each => each.slices);
  const box = document.getElementById("viewer");
  if (box && volumes.length) start(box, volumes);
  for (const button of document.querySelectorAll(".copy")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  async function copy(button) {
    const text = document.getElementById(button.dataset.of).innerText;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch (error) { getSelection().selectAllChildren(document.getElementById(button.dataset.of)); button.textContent = "Selected: press Ctrl+C"; }
  }

  function start(box, volumes) {
    const names = JSON.parse(box.dataset.classes);
    const find = name => box.querySelector("." + name);
    const choice = box.querySelector("select"), slider = box.querySelector("input"), output = box.querySelector("output");
    const stage = find("stage"), canvases = box.querySelectorAll("canvas"), originals = find("original");
    const sheets = new Map();
    let now = 0;
    box.hidden = false;
    volumes.forEach((each, place) => choice.add(new Option(
      (each.source ? each.source + ", " : "") + names[each.label] + ", volume " + (each.index + 1) + (each.copy ? " (called a copy)" : ""), place)));

    function sheet(told, then) {
      if (!sheets.has(told.picture)) {
        const image = new Image();
        image.src = "data:image/webp;base64," + told.picture;
        sheets.set(told.picture, image);
      }
      const image = sheets.get(told.picture);
      if (image.complete && image.naturalWidth) then(image); else image.addEventListener("load", () => then(image), { once: true });
    }
    function paint(canvas, told, what) {
      const number = Math.min(Number(slider.value), told.count) - 1, shown = now;
      canvas.width = told.width; canvas.height = told.height;
      canvas.style.aspectRatio = told.ratio;
      canvas.setAttribute("aria-label", what + ", slice " + (number + 1) + " of " + told.count);
      sheet(told, image => {
        if (shown !== now || Number(slider.value) - 1 !== number) return;
        canvas.getContext("2d").drawImage(image, number % told.columns * told.width, Math.floor(number / told.columns) * told.height,
          told.width, told.height, 0, 0, told.width, told.height);
      });
    }
    function draw() {
      const each = volumes[now];
      output.value = slider.value + " of " + each.slices.count;
      slider.setAttribute("aria-valuetext", "slice " + output.value);
      paint(canvases[0], each.slices, "synthetic, " + names[each.label]);
      if (each.nearest) paint(canvases[1], each.nearest, "nearest training volume");
    }
    function row(list, name, value, alarm) {
      if (value === undefined || value === "") return;
      const term = document.createElement("dt"), told = document.createElement("dd");
      term.textContent = name; told.textContent = value;
      if (alarm) told.className = "alarm";
      list.append(term, told);
    }
    function show(place) {
      now = (place + volumes.length) % volumes.length;
      const each = volumes[now], list = box.querySelector("dl"), before = Number(slider.max), at = Number(slider.value);
      choice.value = now;
      slider.max = each.slices.count;
      slider.value = before === each.slices.count ? at : Math.ceil((each.slices.count + 1) / 2);
      originals.hidden = !each.nearest;
      list.replaceChildren();
      row(list, "Class", names[each.label]);
      row(list, "Prompt", each.prompt);
      if (each.probabilities) row(list, "Read from it", each.probabilities.map((p, n) => names[n] + " " + p.toFixed(2)).join(", "));
      row(list, "Recipe", Object.entries(each.recipe).map(pair => pair.join(" ")).join(", "));
      if (each.correlation !== undefined)
        row(list, "Nearest", "r = " + each.correlation.toFixed(2) + (each.mirrored ? ", mirrored" : "") +
          (each.nearest_subject ? ", " + each.nearest_subject : "") + (each.copy ? ": called a copy" : ""), each.copy);
      draw();
    }
    function move(by) {
      const before = slider.value;
      slider.value = Number(slider.value) + by;
      if (slider.value !== before) draw();
      return slider.value !== before;
    }
    choice.addEventListener("change", () => show(Number(choice.value)));
    slider.addEventListener("input", draw);
    find("previous").addEventListener("click", () => show(now - 1));
    find("next").addEventListener("click", () => show(now + 1));
    stage.addEventListener("wheel", event => { if (move(event.deltaY > 0 ? 1 : -1)) event.preventDefault(); }, { passive: false });
    let from = null;
    stage.addEventListener("pointerdown", event => { from = { x: event.clientX, slice: Number(slider.value) }; stage.setPointerCapture(event.pointerId); });
    stage.addEventListener("pointermove", event => {
      if (!from) return;
      slider.value = from.slice + Math.round((event.clientX - from.x) / 12);
      draw();
    });
    for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => { from = null; });
    box.addEventListener("keydown", event => {
      if (event.target === choice || event.target === slider) return;
      const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
      if (by && event.target === stage) { move(by); event.preventDefault(); }
    });
    show(0);
  }
})();
