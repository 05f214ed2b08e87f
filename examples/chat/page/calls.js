// The calls: everything that the page asks of its own server, and of nobody else.

let token = "";

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function answered(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused(0, "The chat cannot be reached. Check your connection and try again.");
  }
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.error ?? "The chat did not understand that.");
  return body;
}

export const ask = (path) => answered(path, {});

export function change(path, body = {}) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": token };
  return answered(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export async function me() {
  const known = await ask("/api/me");
  token = known.token;
  return known.user;
}

export async function sign(how, body) {
  const known = await change(`/api/${how}`, body);
  token = known.token;
  return known.user;
}
