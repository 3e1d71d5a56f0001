// The requesting party's side of UMA 2.0 in a page without a server of its own: it opens a link, and where the gateway answers 401 with a permission ticket,
// it has the visitor sign in (authorization code with PKCE), trades the ticket for a requesting party token, and opens the link again with that.
//
// config.json names the authorization servers that this page trusts, each with the client that this page is there. What a challenge names and the file does not
// is not asked: whoever answers a link could otherwise send visitors to a server of his own. It names the origins that links may have as well (resource_servers;
// without it, this page's own): whoever answers a link is shown the requesting party token, and a ticket does not say from whom it is, so that another server
// could hand on one that it has got from the right one. Tokens live in this page's memory and nowhere else.

const UMA_TICKET = "urn:ietf:params:oauth:grant-type:uma-ticket";
const CLAIM_FORMAT = "http://openid.net/specs/openid-connect-core-1_0.html#IDToken";
const here = location.origin + location.pathname;
const part = name => document.getElementById(name);

// What stops the way, in words for the visitor.
class Stop extends Error {}

function step(text) {
  const line = document.createElement("li");
  line.textContent = text;
  part("steps").append(line);
}

function say(text) {
  part("word").textContent = text;
  part("word").hidden = !text;
}

// The parameters of the UMA challenge in a WWW-Authenticate field (RFC 9110, 11.6.1), or null where there is none.
export function challenge(field) {
  const found = /(?:^|,)\s*UMA\s+(.*)$/i.exec(field ?? "");
  if (!found) return null;
  const parameters = {};
  let rest = found[1], one;
  while ((one = /^\s*,?\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/.exec(rest))) {
    parameters[one[1].toLowerCase()] ??= one[3] ?? one[2].replace(/\\(.)/g, "$1");
    rest = rest.slice(one[0].length);
  }
  return parameters;
}

const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));
const base64url = bytes => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

async function json(answer) {
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

async function ask(address, options = {}) {
  try {
    return await fetch(address, { cache: "no-store", credentials: "omit", referrerPolicy: "no-referrer", ...options });
  } catch {
    throw new Stop(`${new URL(address).origin} cannot be reached from this page, or does not let pages of ${location.origin} read its answers.`);
  }
}

// Whom this page trusts.
async function trusted() {
  const { authorization_servers, resource_servers = [location.origin] } = await (await ask("config.json")).json();
  return { authorization_servers, resource_servers };
}

// The endpoints of an authorization server that this page trusts.
async function server(issuer) {
  const client = (await trusted()).authorization_servers[issuer];
  if (!client) throw new Stop("The link's authorization server is none that this page knows.");
  const answer = await ask(`${issuer.replace(/\/$/, "")}/.well-known/uma2-configuration`);
  const document = await json(answer);
  if (!answer.ok || document.issuer !== issuer) throw new Stop("The authorization server does not say who it is.");
  return { issuer, client, token: document.token_endpoint, authorization: document.authorization_endpoint };
}

// Leaves for the authorization server; comes back to `returned`.
async function signIn(server, link) {
  const state = random(), verifier = random();
  sessionStorage.setItem(state, JSON.stringify({ issuer: server.issuer, link, verifier }));
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const query = new URLSearchParams({
    response_type: "code", client_id: server.client, redirect_uri: here, scope: "openid", state,
    code_challenge: base64url(digest), code_challenge_method: "S256",
  });
  location.assign(`${server.authorization}?${query}`);
}

// The answer that the authorization server has sent along, if this page has asked for it; each is used once.
async function returned() {
  const query = new URLSearchParams(location.search), state = query.get("state");
  history.replaceState(null, "", here);
  const kept = state && JSON.parse(sessionStorage.getItem(state) ?? "null");
  if (!kept) return null;
  sessionStorage.removeItem(state);
  part("link").value = kept.link;
  if (query.has("error")) throw new Stop(`Signing in failed: ${query.get("error")}.`);
  const known = await server(kept.issuer);
  // RFC 9207: a code of another server is not for this one.
  if (query.has("iss") && query.get("iss") !== kept.issuer) throw new Stop("The answer came from another authorization server.");
  const fields = { grant_type: "authorization_code", code: query.get("code"), redirect_uri: here, client_id: known.client, code_verifier: kept.verifier };
  const answer = await ask(known.token, { method: "POST", body: new URLSearchParams(fields) });
  const { access_token: token, error } = await json(answer);
  if (!token) throw new Stop(`Signing in failed: ${error ?? answer.status}.`);
  return { link: kept.link, issuer: kept.issuer, token };
}

// Trades a permission ticket for a requesting party token (UMA 2.0 Grant, 3.3.1).
async function trade(known, ticket, token) {
  const fields = { grant_type: UMA_TICKET, ticket, client_id: known.client, claim_token: token, claim_token_format: CLAIM_FORMAT };
  const answer = await ask(known.token, { method: "POST", body: new URLSearchParams(fields) });
  const { access_token: rpt, error, error_description: why } = await json(answer);
  if (rpt) return rpt;
  if (error === "request_submitted" || why === "request_submitted") throw new Stop("The owner has been asked to share this with you. Open the link again later.");
  if (error === "access_denied" || error === "request_denied") throw new Stop("This is not shared with you.");
  throw new Stop(`The authorization server gave no token: ${error ?? answer.status}.`);
}

// Asks a resource server. Where it sends the page elsewhere, nobody has said that whoever is there may see the token.
async function resource(link, headers = {}) {
  const answer = await ask(link, { headers, redirect: "manual" });
  if (answer.type === "opaqueredirect") throw new Stop("The link leads on to another address, and this page follows none.");
  return answer;
}

// Opens the link; `visitor` is who has signed in, if anybody has.
async function open(link, visitor) {
  const { origin } = new URL(link), { resource_servers: known } = await trusted();
  if (!known.includes(origin)) throw new Stop(`This page opens links of ${known.join(", ")} only: ${origin} was not asked.`);
  step(`Asking ${origin}`);
  let answer = await resource(link);
  const asked = answer.status === 401 ? challenge(answer.headers.get("WWW-Authenticate")) : null;
  if (asked?.ticket && asked.as_uri) {
    step("A permission is needed");
    const known = await server(asked.as_uri);
    if (visitor?.issuer !== known.issuer) {
      step(`Signing in at ${new URL(known.issuer).origin}`);
      return signIn(known, link);
    }
    const rpt = await trade(known, asked.ticket, visitor.token);
    step("The authorization server gave a requesting party token");
    answer = await resource(link, { Authorization: `Bearer ${rpt}` });
  }
  if (!answer.ok) {
    const { title, detail } = await json(answer);
    throw new Stop(`${answer.status}: ${detail ?? title ?? "the link cannot be opened"}`);
  }
  await show(answer);
}

// Pictures as pictures, everything else as text: nothing that came is run.
async function show(answer) {
  const kind = (answer.headers.get("Content-Type") ?? "").split(";")[0].trim().toLowerCase();
  let made;
  if (/^image\/(png|jpeg|gif|webp|avif)$/.test(kind)) {
    made = document.createElement("img");
    made.src = URL.createObjectURL(await answer.blob());
    made.alt = "what was shared";
  } else {
    made = document.createElement("pre");
    made.textContent = await answer.text();
  }
  part("content").replaceChildren(made);
  part("content").hidden = false;
  step("Opened");
}

async function way(walk) {
  say("");
  part("content").hidden = true;
  try {
    await walk();
  } catch (error) {
    say(error instanceof Stop ? error.message : "Something in this page went wrong.");
    if (!(error instanceof Stop)) console.error(error);
  }
}

part("ask").addEventListener("submit", event => {
  event.preventDefault();
  part("steps").replaceChildren();
  way(() => open(part("link").value, null));
});

await way(async () => {
  const visitor = location.search.includes("state=") ? await returned() : null;
  if (!visitor) return;
  step("Signed in");
  await open(visitor.link, visitor);
});
