"use strict";
// One trial under the pointer is lit in every picture and in the table.
const told = document.getElementById("told");
const words = JSON.parse(document.getElementById("trials").textContent);
let now = null;
function light(number) {
  if (number === now) return;
  now = number;
  for (const part of document.querySelectorAll(".now")) part.classList.remove("now");
  for (const picture of document.querySelectorAll("svg.all")) picture.classList.toggle("lit", number !== null);
  if (number !== null) for (const part of document.querySelectorAll(`[data-t="${number}"]`)) part.classList.add("now");
  told.textContent = number === null ? "" : words[number];
}
document.addEventListener("pointerover", (event) => {
  const part = event.target.closest("[data-t]");
  light(part ? part.dataset.t : null);
});
