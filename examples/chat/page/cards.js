// The cards: messages and pictures as elements. Words of people become text, never markup.

function made(kind, fields = {}, ...inside) {
  const element = Object.assign(document.createElement(kind), fields);
  element.append(...inside);
  return element;
}

function action(name, text, act) {
  const button = made("button", { type: "button", textContent: text });
  button.dataset.action = name;
  button.addEventListener("click", act);
  return button;
}

const STANDS = {
  asked: () => "In the queue.",
  drawing: ({ step, steps }) => (steps ? `Drawing: step ${step} of ${steps}.` : "Drawing."),
  drawn: () => "Drawn.",
  failed: ({ trouble }) => trouble.what,
  cancelled: ({ trouble }) => trouble.what,
};

export function stands(picture) {
  return STANDS[picture.state](picture);
}

function facts(picture) {
  const told = [];
  if (picture.width) told.push(`${picture.width} × ${picture.height}`);
  if (picture.seed !== null) told.push(`seed ${picture.seed}`);
  if (picture.seconds !== null) told.push(`${picture.seconds.toFixed(1)} s`);
  return told.join(" · ");
}

function bar(picture) {
  const element = made("progress", { max: picture.steps || 1 });
  if (picture.steps) element.value = picture.step;
  element.setAttribute("aria-label", "Progress of the drawing");
  return element;
}

function image(picture) {
  const fields = { src: file(picture), alt: picture.prompt, width: picture.width, height: picture.height };
  const element = made("img", fields);
  // Its room is there before its bytes are: nothing moves away under a pointer.
  element.style.setProperty("--width", `${picture.width}px`);
  element.style.setProperty("--sides", `${picture.width} / ${picture.height}`);
  return element;
}

function download(picture) {
  const link = made("a", { className: "button", href: `${file(picture)}?download`, textContent: "Download" });
  link.dataset.action = "download";
  return link;
}

const file = (picture) => `/api/pictures/${picture.id}`;

function underWay(picture, acts) {
  return {
    shown: [made("p", { className: "stands", textContent: stands(picture) }), bar(picture)],
    actions: [action("cancel", "Cancel", () => acts.cancel(picture))],
  };
}

function drawn(picture, acts) {
  return {
    shown: [image(picture)],
    actions: [
      download(picture),
      action("again", "Retry with a new seed", () => acts.again(picture)),
      action("edit", "Edit the prompt", () => acts.edit(picture)),
    ],
  };
}

function missed(picture, acts) {
  const again = action("again", "Try again", () => acts.again(picture));
  return {
    shown: [
      made("p", { className: "stands trouble", textContent: stands(picture) }),
      made("p", { className: "remedy", textContent: picture.trouble.remedy }),
    ],
    actions: [
      ...(picture.trouble.again ? [again] : []),
      action("edit", "Edit the prompt", () => acts.edit(picture)),
    ],
  };
}

const SHOWN = { asked: underWay, drawing: underWay, drawn, failed: missed, cancelled: missed };

function figure(picture, acts) {
  const { shown, actions } = SHOWN[picture.state](picture, acts);
  const caption = made("figcaption", {}, made("p", { className: "prompt", textContent: picture.prompt }),
    made("p", { className: "facts", textContent: facts(picture) }));
  const whole = made("figure", {}, ...shown, caption, made("p", { className: "actions" }, ...actions));
  whole.dataset.state = picture.state;
  whole.dataset.picture = picture.id;
  return whole;
}

export function card(message, acts) {
  const item = made("li", { id: `message-${message.id}`, className: message.author });
  const author = message.author === "user" ? "You: " : "imagegen: ";
  item.append(made("span", { className: "unseen", textContent: author }));
  if (message.text) item.append(made("p", { textContent: message.text }));
  if (message.picture) item.append(figure(message.picture, acts));
  return item;
}

// A step changes two elements in place: the card keeps its buttons, and with them the focus.
export function advance(item, picture) {
  item.querySelector(".stands").textContent = stands(picture);
  Object.assign(item.querySelector("progress"), { max: picture.steps || 1, value: picture.step });
}

// What had the focus in the card before has it in the new one, or what came into its place.
export function keepFocus(before, after) {
  const focused = before.contains(document.activeElement) ? document.activeElement : null;
  before.replaceWith(after);
  if (focused === null) return;
  const same = after.querySelector(`[data-action="${focused.dataset.action}"]`);
  (same ?? after.querySelector("[data-action]"))?.focus();
}
