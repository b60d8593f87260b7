// Shows what data-tip says beside the pointer. Without it the tables below the charts say the same.
"use strict";
const tip = document.getElementById("tip");
let shown = null;

function place(event) {
  const gap = 14;
  const box = tip.getBoundingClientRect();
  const isLeft = event.clientX + gap + box.width > innerWidth;
  const x = isLeft ? event.clientX - gap - box.width : event.clientX + gap;
  const y = Math.min(event.clientY + gap, innerHeight - box.height - 4);
  tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
}

function show(event) {
  const target = event.target instanceof Element ? event.target.closest("[data-tip]") : null;
  if (target !== shown) {
    shown = target;
    tip.textContent = target ? target.dataset.tip : "";
    tip.classList.toggle("shown", target !== null);
  }
  if (target) place(event);
}

document.addEventListener("pointermove", show);
document.addEventListener("pointerdown", show);
document.addEventListener("scroll", () => {
  shown = null;
  tip.classList.remove("shown");
}, { passive: true });
