// The chat: signs in, shows the conversation, sends what is written, and hears the news.

import { Refused, ask, change, me, sign } from "/page/calls.js";
import { advance, card, keepFocus, stands } from "/page/cards.js";

const at = (id) => document.getElementById(id);
const messages = new Map();
let news = null;
let since = 0;
let edited = null;

const say = (text) => { at("spoken").textContent = text; };
const alarm = (text) => { at("alert").textContent = text; };

async function trying(act) {
  alarm("");
  try {
    await act();
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    alarm(error.message);
    if (error.status === 401 && news !== null) await begin();
    return false;
  }
}

// ------------------------------------------------------------------ the conversation

const acts = {
  cancel: (picture) => trying(() => change(`/api/pictures/${picture.id}/cancel`)),
  again: (picture) => trying(() => change(`/api/pictures/${picture.id}/again`)),
  edit(picture) {
    edited = picture;
    at("editing-what").textContent = "Change the prompt and send it again.";
    at("editing").hidden = false;
    at("text").value = inWords(picture);
    at("text").focus();
    at("text").select();
  },
};

// Where the service would not have it, size and seed are told too: they may be what is at fault.
function inWords({ prompt, trouble, width, height, seed }) {
  if (trouble === null || trouble.again) return prompt;
  return [prompt, width && `${width}x${height}`, seed !== null && `seed ${seed}`].filter(Boolean).join(", ");
}

function leaveEdit() {
  edited = null;
  at("editing").hidden = true;
}

function atEnd() {
  const list = at("messages");
  return list.scrollHeight - list.scrollTop - list.clientHeight < 80;
}

function toEnd() {
  at("messages").scrollTop = at("messages").scrollHeight;
}

function show(message) {
  const known = messages.get(message.id);
  const follow = atEnd();
  const made = card(message, acts);
  messages.set(message.id, message);
  if (known) keepFocus(at(made.id), made);
  else insert(message.id, made);
  if (follow) toEnd();
}

function insert(id, made) {
  const after = [...messages.keys()].filter((other) => other > id);
  const next = after.length ? at(`message-${Math.min(...after)}`) : null;
  at("messages").insertBefore(made, next);
}

function heard(message) {
  const before = messages.get(message.id)?.picture?.state;
  show(message);
  const picture = message.picture;
  if (message.author === "chat" && picture === null) say(message.text);
  if (picture === null || picture.state === before) return;
  say([stands(picture), picture.trouble?.remedy ?? "", picture.prompt].join(" "));
}

function stepped(step) {
  for (const message of messages.values()) {
    const picture = message.picture;
    if (picture?.id !== step.picture || !["asked", "drawing"].includes(picture.state)) continue;
    Object.assign(picture, { state: "drawing", step: step.step, steps: step.steps });
    advance(at(`message-${message.id}`), picture);
  }
}

async function load(before) {
  const query = before === undefined ? "" : `?before=${before}`;
  const told = await ask(`/api/conversation${query}`);
  const top = at("messages").scrollHeight - at("messages").scrollTop;
  told.messages.forEach(show);
  at("earlier").hidden = told.messages.length < 60;
  if (before === undefined) toEnd();
  else at("messages").scrollTop = at("messages").scrollHeight - top;
  return told.since;
}

// ------------------------------------------------------------------ news

// Six connections to a server are all that a browser opens: a page that nobody sees holds none.
function listen() {
  news?.close();
  if (document.hidden) return;
  news = new EventSource(`/api/events?since=${since}`);
  news.addEventListener("message", (event) => {
    since = Number(event.lastEventId);
    heard(JSON.parse(event.data));
  });
  news.addEventListener("step", (event) => stepped(JSON.parse(event.data)));
  // In another tab somebody else may have signed in meanwhile: this conversation is not theirs.
  news.addEventListener("who", (event) => {
    if (JSON.parse(event.data).user === at("name").textContent) alarm("");
    else trying(begin);
  });
  news.addEventListener("error", lost);
}

async function lost() {
  if (news.readyState === EventSource.CONNECTING) {
    alarm("The connection is lost. It is being tried again; what runs goes on.");
    return;
  }
  const user = await me().catch(() => undefined);
  if (user === null) {
    await trying(begin);
    return;
  }
  alarm("No news comes at the moment. If many pages of the chat are open, close some.");
  setTimeout(listen, 3000);
}

// ------------------------------------------------------------------ signing in and out

async function begin() {
  news?.close();
  news = null;
  const user = await me();
  at("sign").hidden = user !== null;
  at("chat").hidden = at("who").hidden = user === null;
  messages.clear();
  at("messages").replaceChildren();
  leaveEdit();
  if (user === null) {
    at("sign-name").focus();
    return;
  }
  at("name").textContent = user;
  since = await load();
  listen();
  at("text").focus();
}

at("sign-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const how = event.submitter?.value ?? "sign-in";
  const body = { name: at("sign-name").value, password: at("sign-password").value };
  const buttons = [at("sign-in"), at("sign-up")];
  buttons.forEach((button) => { button.disabled = true; });
  const done = await trying(() => sign(how, body));
  buttons.forEach((button) => { button.disabled = false; });
  if (!done) {
    at("sign-password").focus();
    return;
  }
  at("sign-password").value = "";
  await trying(begin);
});

at("sign-out").addEventListener("click", () => trying(async () => {
  await sign("sign-out", {});
  at("text").value = "";
  await begin();
}));

// ------------------------------------------------------------------ writing

// Sent in the order in which it was written; what could not be sent comes back to be sent again.
let sending = Promise.resolve();

async function send(text, picture) {
  const [path, body] = picture === null
    ? ["/api/messages", { text }]
    : [`/api/pictures/${picture.id}/edit`, { prompt: text }];
  if (await trying(() => change(path, body)) || at("text").value !== "") return;
  if (picture !== null) acts.edit(picture);
  at("text").value = text;
}

at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = at("text").value;
  const picture = edited;
  at("text").value = "";
  leaveEdit();
  toEnd();
  sending = sending.then(() => send(text, picture));
  at("text").focus();
});

// A candidate of an input method is chosen by Enter, too: that is not sending.
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("composer").requestSubmit();
  }
  if (event.key === "Escape" && edited !== null) at("edit-no").click();
});

at("edit-no").addEventListener("click", () => {
  leaveEdit();
  at("text").value = "";
  at("text").focus();
});

at("earlier").addEventListener("click", () => trying(() => load(Math.min(...messages.keys()))));
document.addEventListener("visibilitychange", () => { if (news !== null) listen(); });

await trying(begin);
