"use strict";
// What scrolls sideways can be reached with the keyboard, and buttons beside code say which code.
document$.subscribe(() => requestAnimationFrame(() => {
  for (const box of document.querySelectorAll("pre > code, .md-typeset__scrollwrap")) box.tabIndex = 0;
  document.querySelectorAll(".md-code__nav").forEach((each, place) => each.setAttribute("aria-label", `Code ${place + 1}`));
}));
