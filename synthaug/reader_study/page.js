"use strict";
const FORMAT = "synthaug reader study, answers 1";
const QUESTIONS = ["call", "confidence", "class"];
const study = JSON.parse(element("settings").textContent);
let voxels = null;
let reader = "";
let answers = [];
let current = 0;
let slice = 0;
let shownSince = 0;
let touchedAt = null;
const painted = [];

function element(id) {
  return document.getElementById(id);
}

// --- voxels

async function readVoxels() {
  const packed = Uint8Array.from(atob(element("voxels").textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  voxels = new Uint8Array(await new Response(stream).arrayBuffer());
}

function paint() {
  const size = study.columns * study.rows;
  const centre = 255 - Number(element("brightness").value);
  const width = 255 - Number(element("contrast").value);
  painted.forEach((canvas, channel) => {
    const volume = current * study.images.length + channel;
    const start = (volume * study.slices + slice) * size;
    const picture = new ImageData(study.columns, study.rows);
    for (let place = 0; place < size; place += 1) {
      const level = ((voxels[start + place] - centre) / width + 0.5) * 255;
      picture.data.set([level, level, level, 255], 4 * place);
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
    canvas.setAttribute(
      "aria-label",
      `Volume ${current + 1}, ${study.images[channel]}, slice ${slice + 1} of ${study.slices}`
    );
  });
  element("slice").value = slice + 1;
  element("slice-told").textContent = `${slice + 1} of ${study.slices}`;
}

function goToSlice(wanted) {
  slice = Math.max(0, Math.min(study.slices - 1, wanted));
  paint();
}

function resetWindow() {
  element("brightness").value = 127.5;
  element("contrast").value = 0;
}

// --- answers

function blank() {
  return { call: null, confidence: null, class: null, seconds: 0 };
}

function isAnswered(answer) {
  return QUESTIONS.every((question) => answer[question] !== null);
}

function storeName() {
  return `synthaug-reader-study ${study.study} ${reader}`;
}

function keep() {
  try {
    localStorage.setItem(storeName(), JSON.stringify(answers));
  } catch (error) {
    element("problem").textContent = "This browser keeps nothing: save the answers before you close the page.";
  }
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(storeName()) || "null");
  } catch (error) {
    return null;
  }
}

function countSeconds() {
  const now = performance.now();
  answers[current].seconds += (now - shownSince) / 1000;
  shownSince = now;
}

function told() {
  const given = answers.map((answer, place) => ({
    case: place + 1,
    call: answer.call,
    confidence: answer.confidence,
    class: answer.class,
    seconds: Math.round(answer.seconds),
  }));
  return { format: FORMAT, study: study.study, reader, answers: given.filter(isAnswered) };
}

function save() {
  countSeconds();
  keep();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(told(), null, 1)], { type: "application/json" }));
  link.download = `answers-${reader.replace(/[^\p{L}\p{N}-]+/gu, "_")}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function takeUp(file) {
  const found = JSON.parse(file);
  if (found.format !== FORMAT || found.study !== study.study) {
    throw new Error("These are not answers of this reader study.");
  }
  reader = found.reader;
  answers = Array.from({ length: study.cases }, blank);
  for (const answer of found.answers) {
    answers[answer.case - 1] = { ...blank(), ...answer };
  }
}

// --- the form

function showCase(wanted) {
  current = Math.max(0, Math.min(study.cases - 1, wanted));
  shownSince = performance.now();
  element("number").textContent = current + 1;
  for (const input of document.querySelectorAll("#questions input")) {
    input.checked = String(answers[current][input.name]) === input.value;
  }
  element("back").disabled = current === 0;
  element("next").disabled = current === study.cases - 1;
  showProgress();
  goToSlice(Math.floor(study.slices / 2));
}

function leaveFor(wanted) {
  countSeconds();
  keep();
  showCase(wanted);
}

function showProgress() {
  const done = answers.filter(isAnswered).length;
  const ending = done === study.cases ? " All are answered: save the answers and send the file." : "";
  element("progress").textContent = `${reader}: ${done} of ${study.cases} answered.${ending}`;
  [...element("overview").children].forEach((button, place) => {
    const answered = isAnswered(answers[place]);
    button.classList.toggle("answered", answered);
    button.setAttribute("aria-label", `Volume ${place + 1}, ${answered ? "answered" : "open"}`);
    if (place === current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
}

function answer(name, value) {
  answers[current][name] = name === "call" ? value : Number(value);
  countSeconds();
  keep();
  for (const input of document.querySelectorAll(`#questions input[name="${name}"]`)) {
    input.checked = input.value === String(value);
  }
  showProgress();
}

function begin() {
  element("start").hidden = true;
  element("reading").hidden = false;
  const open = answers.findIndex((each) => !isAnswered(each));
  showCase(open < 0 ? 0 : open);
  element("next").focus();
}

// --- building the page and listening

function build() {
  for (const total of document.querySelectorAll(".total")) total.textContent = study.cases;
  for (const image of study.images) {
    const figure = document.createElement("figure");
    const canvas = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    canvas.width = study.columns;
    canvas.height = study.rows;
    canvas.style.aspectRatio = `${study.width_mm} / ${study.height_mm}`;
    canvas.style.setProperty("--ratio", study.width_mm / study.height_mm);
    canvas.setAttribute("role", "img");
    caption.textContent = image;
    figure.append(canvas, caption);
    element("panels").append(figure);
    painted.push(canvas);
  }
  study.classes.forEach((name, number) => {
    const label = document.createElement("label");
    const input = document.createElement("input");
    Object.assign(input, { type: "radio", name: "class", value: number });
    label.append(input, ` ${name}`);
    element("classes").append(label);
  });
  for (let place = 0; place < study.cases; place += 1) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = place + 1;
    button.addEventListener("click", () => leaveFor(place));
    element("overview").append(button);
  }
  element("slice").max = study.slices;
  resetWindow();
}

function listen() {
  element("slice").addEventListener("input", (event) => goToSlice(Number(event.target.value) - 1));
  for (const id of ["brightness", "contrast"]) element(id).addEventListener("input", paint);
  element("reset").addEventListener("click", () => {
    resetWindow();
    paint();
  });
  element("back").addEventListener("click", () => leaveFor(current - 1));
  element("next").addEventListener("click", () => leaveFor(current + 1));
  element("save").addEventListener("click", save);
  element("questions").addEventListener("change", (event) => answer(event.target.name, event.target.value));
  element("questions").addEventListener("submit", (event) => event.preventDefault());
  element("panels").addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      goToSlice(slice + Math.sign(event.deltaY));
    },
    { passive: false }
  );
  element("panels").addEventListener("pointerdown", (event) => {
    touchedAt = { y: event.clientY, slice };
    event.target.setPointerCapture(event.pointerId);
  });
  element("panels").addEventListener("pointermove", (event) => {
    if (touchedAt) goToSlice(touchedAt.slice + Math.round((event.clientY - touchedAt.y) / 8));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    element("panels").addEventListener(name, () => (touchedAt = null));
  }
  document.addEventListener("keydown", onKey);
}

function onKey(event) {
  const typing = ["text", "range", "file"].includes(event.target.type);
  if (element("reading").hidden || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  // Arrow keys inside a group of radio buttons choose among them, as everywhere.
  const inGroup = event.target.type === "radio";
  if (event.key === "ArrowUp" && !inGroup) goToSlice(slice + 1);
  else if (event.key === "ArrowDown" && !inGroup) goToSlice(slice - 1);
  else if (event.key === "ArrowLeft" && !inGroup) leaveFor(current - 1);
  else if (event.key === "ArrowRight" && !inGroup) leaveFor(current + 1);
  else if (/^[1-5]$/.test(event.key)) answer("confidence", event.key);
  else if (event.key.toLowerCase() === "r") answer("call", "real");
  else if (event.key.toLowerCase() === "s") answer("call", "synthetic");
  else return;
  event.preventDefault();
}

async function start() {
  build();
  listen();
  try {
    await readVoxels();
  } catch (error) {
    element("problem").textContent = "This browser cannot unpack the volumes: use a newer one.";
    return;
  }
  element("sign").addEventListener("submit", (event) => {
    event.preventDefault();
    reader = element("reader").value.trim();
    if (!reader) return;
    answers = kept() || Array.from({ length: study.cases }, blank);
    begin();
  });
  element("file").addEventListener("change", async (event) => {
    try {
      takeUp(await event.target.files[0].text());
    } catch (error) {
      element("problem").textContent = error.message;
      return;
    }
    keep();
    begin();
  });
  document.body.dataset.ready = "true";
}

start();
