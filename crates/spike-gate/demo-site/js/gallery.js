// Opens a picture of the wall in place, with arrow keys to walk on. Without it the links open the files.
(() => {
  "use strict";
  const links = [...document.querySelectorAll(".wall a")];
  if (!links.length || typeof HTMLDialogElement !== "function") return;

  const dialog = document.createElement("dialog");
  dialog.className = "view";
  const picture = document.createElement("img");
  const caption = document.createElement("span");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "Close";
  const line = document.createElement("p");
  line.append(caption, close);
  dialog.append(picture, line);
  document.body.append(dialog);

  let at = 0;
  const show = (index) => {
    at = (index + links.length) % links.length;
    const thumb = links[at].querySelector("img");
    picture.src = links[at].href;
    picture.alt = thumb ? thumb.alt : "";
    caption.textContent = `${links[at].textContent.trim()} (${at + 1} of ${links.length})`;
  };

  links.forEach((link, index) => {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(index);
      dialog.showModal();
    });
  });
  close.addEventListener("click", () => dialog.close());
  picture.addEventListener("click", () => show(at + 1));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(at + 1);
    if (event.key === "ArrowLeft") show(at - 1);
  });
})();
