// An example of a page that asks first. Before there is a choice it sends nothing and keeps nothing; a no is kept as
// well as a yes, without an id; a later change is told to the collector before the id is forgotten.

const WRITE_KEY = decodeURIComponent(location.pathname.split("/").at(-2));
const COLLECTOR = new URL("../../", location.href);
const CATEGORIES = ["analytics", "marketing"];
const KEPT = `samla-example-choice-${WRITE_KEY}`;
const PRODUCT = { product_id: "oolong-100", name: "Morning Oolong", category: "Tea", price: 12.5, quantity: 1 };

const $ = (id) => document.getElementById(id);

let choice = remembered(); // {analytics, marketing}, or null where nothing has been chosen
let visitor = null;
let viewed = false;
let turn = Promise.resolve(); // One thing after the other: a no must not be overtaken by the yes before it.

// What was chosen

function remembered() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT));
    return kept && CATEGORIES.every((each) => typeof kept[each] === "boolean") ? kept : null;
  } catch {
    return null; // Storage may be forbidden: then this page asks again each time.
  }
}

function remember(chosen) {
  try {
    localStorage.setItem(KEPT, JSON.stringify(chosen));
  } catch {
    // As above.
  }
}

const agreed = (chosen) => CATEGORIES.some((each) => chosen?.[each]);

function choose(chosen) {
  const changed = choice && CATEGORIES.some((each) => choice[each] !== chosen[each]);
  choice = chosen;
  remember(chosen);
  showChoice();
  closeBanner();
  turn = turn.then(() => settle(chosen, changed));
}

async function settle(chosen, changed) {
  if (agreed(chosen)) await meet();
  // Told under the id that there is, so that a no reaches what was collected under it.
  if (changed && visitor) await send("track", { event: "Segment Consent Preference Updated" });
  if (!agreed(chosen)) await forget();
  await view();
}

// Sending

function random() {
  // Not randomUUID: browsers have that over https only.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function post(path, body) {
  const entry = log(path, body);
  try {
    const answer = await fetch(new URL(path, COLLECTOR), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, writeKey: WRITE_KEY }),
      keepalive: true, // It arrives also when the page is left at once.
    });
    const told = await answer.json();
    entry.answered(answer.status, told);
    return answer.ok ? told : null;
  } catch (error) {
    entry.answered(0, { message: String(error) });
    return null;
  }
}

async function meet() {
  const told = await post("v1/visitor", { consent: true });
  // Where the source gives no ids, one for this page view must do.
  visitor = told?.anonymousId ?? visitor ?? random();
}

async function forget() {
  visitor = null;
  await post("v1/visitor", { consent: false });
}

function send(kind, fields, id = visitor) {
  return post(`v1/${kind}`, {
    anonymousId: id,
    messageId: random(),
    timestamp: new Date().toISOString(),
    ...fields,
    context: { locale: navigator.language, consent: { categoryPreferences: choice } },
  });
}

async function view() {
  if (viewed || !choice.analytics) return;
  viewed = true;
  // Without the address: the write key is in it.
  await send("page", { name: document.title, properties: { title: document.title, path: "/example/" } });
}

async function buy() {
  await turn;
  if (!choice) return askFirst($("buy-told"));
  if (!choice.analytics) return tell($("buy-told"), "Thank you! Nothing was sent: you have not agreed to analytics.");
  const order = { order_id: random(), revenue: PRODUCT.price, currency: "EUR", products: [PRODUCT] };
  const taken = await send("track", { event: "Order Completed", properties: order });
  tell($("buy-told"), taken ? "Thank you! Your order was sent." : "That did not work. Please try again.");
}

async function subscribe(form) {
  await turn;
  if (!choice) return askFirst($("letter-told"));
  if (!valid(form)) return tell($("letter-told"), "");
  const { name, email, interest } = Object.fromEntries(new FormData(form));
  // Who asks for a letter after a no gets the letter: under an id that is used once, with the no beside it.
  const taken = await send("identify", { traits: { name, email, interest } }, visitor ?? random());
  tell($("letter-told"), taken ? "Thank you! You will hear from us." : "That did not work. Please try again.");
}

// Showing

function tell(place, text) {
  place.textContent = text;
}

function askFirst(place) {
  tell(place, "Please choose first what we may remember. Nothing was sent.");
  openBanner();
}

function valid(form) {
  const wrong = [...form.elements].filter((each) => each.name && !mark(each));
  wrong[0]?.focus();
  return wrong.length === 0;
}

function mark(field) {
  const place = $(`${field.id}-wrong`);
  if (!place) return true;
  const good = field.validity.valid && field.value.trim() !== "";
  const missing = field.validity.valueMissing || field.value.trim() === "";
  const label = field.labels[0].textContent;
  place.textContent = good ? "" : missing ? `${label} is missing.` : `${label} must look like ada@example.org.`;
  field.setAttribute("aria-invalid", String(!good));
  return good;
}

function showChoice() {
  const yes = CATEGORIES.filter((each) => choice?.[each]);
  tell($("choice"), !choice ? "Not chosen yet" : yes.length ? `Agreed: ${yes.join(", ")}` : "All refused");
}

function openBanner() {
  for (const each of CATEGORIES) $("categories").elements[each].checked = Boolean(choice?.[each]);
  $("consent").hidden = false;
  openCategories(Boolean(choice)); // Who comes back sees what was chosen.
  $("consent-title").focus();
}

function closeBanner() {
  const within = $("consent").contains(document.activeElement);
  $("consent").hidden = true;
  openCategories(false);
  if (within) $("change").focus();
}

function openCategories(open) {
  $("categories").hidden = !open;
  $("choose").setAttribute("aria-expanded", String(open));
}

function log(path, body) {
  const status = make("span", "status", "…");
  const summary = make("summary", "", "");
  const answer = make("pre", "", "");
  summary.append(make("code", "", `POST /${path}`), make("span", "what", body.event ?? ""), status);
  const entry = make("details", "", "");
  entry.append(
    summary,
    make("h3", "", "Sent"), focusable(make("pre", "", JSON.stringify(body, null, 2))),
    make("h3", "", "Answer"), focusable(answer),
  );
  const item = make("li", "", "");
  item.append(entry);
  $("sent").prepend(item);
  $("sent-none").hidden = true;
  return {
    answered(code, told) {
      status.textContent = code || "no answer";
      status.classList.add(code >= 200 && code < 300 ? "good" : "bad");
      answer.textContent = JSON.stringify(told, null, 2);
    },
  };
}

function make(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

function focusable(made) {
  made.tabIndex = 0; // Long lines are scrolled with the keyboard too.
  return made;
}

// Beginning

const all = (value) => Object.fromEntries(CATEGORIES.map((each) => [each, value]));

$("accept").addEventListener("click", () => choose(all(true)));
$("refuse").addEventListener("click", () => choose(all(false)));
$("choose").addEventListener("click", () => openCategories($("categories").hidden));
$("categories").addEventListener("submit", (event) => {
  event.preventDefault();
  choose(Object.fromEntries(CATEGORIES.map((each) => [each, event.target.elements[each].checked])));
});
$("change").addEventListener("click", openBanner);
$("consent").addEventListener("keydown", (event) => {
  if (event.key === "Escape" && choice) closeBanner(); // Nothing is changed.
});
$("buy").addEventListener("click", buy);
$("letter").addEventListener("submit", (event) => {
  event.preventDefault();
  subscribe(event.target);
});
$("letter").addEventListener("input", (event) => {
  if (event.target.getAttribute("aria-invalid") === "true") mark(event.target);
});
// What has the focus is never behind the banner.
new ResizeObserver(([{ target }]) => {
  document.documentElement.style.setProperty("--banner", `${target.offsetHeight}px`);
}).observe($("consent"));

showChoice();
if (!choice) {
  $("consent").hidden = false;
} else if (agreed(choice)) {
  turn = meet().then(view);
}
