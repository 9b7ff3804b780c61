"use strict";
(() => {
  // what a link leads to is open
  const reveal = () => {
    const section = location.hash && document.getElementById(location.hash.slice(1));
    const details = section && section.querySelector("details");
    if (details) { details.open = true; section.scrollIntoView(); }
  };
  addEventListener("hashchange", reveal);
  reveal();
})();
(() => {
  const section = document.getElementById("blink");
  const images = [...document.querySelectorAll("img[data-blink]")];
  if (!section || images.length < 2) return;
  const first = document.getElementById("blink-a"), second = document.getElementById("blink-b");
  const image = document.getElementById("blink-image"), name = document.getElementById("blink-name");
  const run = document.getElementById("blink-run");
  for (const select of [first, second]) {
    images.forEach((item, index) => select.add(new Option(item.dataset.blink, String(index))));
  }
  // a master and that of another night, if there is one; else two of one size
  const size = (item) => `${item.getAttribute("width")} ${item.getAttribute("height")}`;
  const file = (item) => item.dataset.blink.slice(item.dataset.blink.indexOf("/"));
  const like = (same) => images.findIndex((item, index) => index > 0 && same(item) === same(images[0]));
  second.value = String([like(file), like(size), 1].find((index) => index > 0));
  let turned = false, timer = 0;
  const show = () => {
    const shown = images[Number((turned ? second : first).value)];
    image.src = shown.src;
    image.alt = `The master ${shown.dataset.blink}`;
    name.textContent = shown.dataset.blink;
  };
  const turn = () => { turned = !turned; show(); };
  const toggle = () => {
    if (timer) { clearInterval(timer); timer = 0; } else { timer = setInterval(turn, 600); }
    run.setAttribute("aria-pressed", String(Boolean(timer)));
    run.textContent = timer ? "Stop" : "Run";
  };
  document.getElementById("blink-turn").addEventListener("click", turn);
  run.addEventListener("click", toggle);
  for (const select of [first, second]) {
    select.addEventListener("change", () => { turned = select === second; show(); });
  }
  image.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === " " || event.key === "Enter") { turn(); } else if (step) {
      second.value = String((Number(second.value) + step + images.length) % images.length);
      turned = true;
      show();
    } else { return; }
    event.preventDefault();
  });
  section.hidden = false;
  show();
})();
