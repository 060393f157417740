// [Task]: T170, T171 [From]: specs/features/frontend.md
// A browser that does what it is told by lines of JSON on stdin, and answers each with one on stdout. It ends with stdin.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(new URL("../../examples/nextjs/package.json", import.meta.url));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 60_000;

const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: [
    ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
    ...["--disable-background-networking", "--disable-component-update"],
    // There is no internet.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
  ],
});

let count = 0;
const contexts = new Map();
const pages = new Map();
/** What browsers complain of, and which requests were refused or failed. */
let complaints = [];
let failures = [];

/** Opens a browser of a person's own. Better Auth counts attempts to sign in by address. */
async function newContext(options) {
  const id = ++count;
  const extraHTTPHeaders = { "x-forwarded-for": `10.0.${id >> 8}.${id & 255}` };
  const context = await browser.newContext({ extraHTTPHeaders, reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(PATIENCE);
  context.on("weberror", (error) => complaints.push(error.error().stack));
  context.on("console", (message) => {
    // Of a request that fails there are two lines: this one, and one of what the page makes of it.
    if (message.type() !== "error" && message.type() !== "warning") return;
    if (/^(Failed to load resource|Access to fetch)/.test(message.text())) return;
    complaints.push(message.text());
  });
  context.on("response", (response) => {
    if (response.status() >= 400) failures.push(`${response.status()} ${nameOf(response.request())}`);
  });
  context.on("requestfailed", (request) => {
    // A page that is left, or a filter that is changed, gives up what it asked for.
    const why = request.failure().errorText;
    if (why !== "net::ERR_ABORTED") failures.push(`${why} ${nameOf(request)}`);
  });
  await context.addInitScript(noteAlerts);
  contexts.set(id, context);
  return id;
}

/** In a page: keeps what its alerts say, however soon they go. */
function noteAlerts() {
  globalThis.told = new Set();
  const note = () => document.querySelectorAll("[role=alert]").forEach(({ innerText }) => innerText && told.add(innerText));
  new MutationObserver(note).observe(document, { subtree: true, childList: true, characterData: true });
}

function nameOf(request) {
  return `${request.method()} ${new URL(request.url()).pathname}`;
}

const contextVerbs = {
  async newPage(context) {
    const id = ++count;
    pages.set(id, await context.newPage());
    return id;
  },
  async request(context, method, url, data) {
    const headers = { origin: new URL(url).origin };
    const answer = await context.request.fetch(url, { method, data, headers });
    if (!answer.ok()) throw new Error(`${answer.status()} ${await answer.text()}`);
    return answer.json();
  },
  close: (context) => context.close(),
};

/** Things are found by role and name, as a screen reader tells them. */
const named = (page, role, name) => page.getByRole(role, { name, exact: true });

const pageVerbs = {
  goto: (page, url) => page.goto(url).then(() => null),
  reload: (page) => page.reload().then(() => null),
  url: (page) => page.url(),
  async click(page, role, name) {
    await page.bringToFront(); // Another tab draws once a second, and its buttons count as moving until then.
    await named(page, role, name).click();
  },
  doubleClick: (page, role, name) => named(page, role, name).dblclick(),
  fill: (page, role, name, text) => named(page, role, name).fill(text),
  select: (page, name, option) => named(page, "combobox", name).selectOption({ label: option }),
  press: (page, key) => page.keyboard.press(key),
  /** What it holds, of a field, once it is there. */
  value: (page, role, name) => named(page, role, name).inputValue(),
  waitFor: (page, role, name) => named(page, role, name).waitFor(),
  /** The tasks in the list, with whether they are ticked. */
  tasks: (page) =>
    page.evaluate(() => {
      const boxes = [...document.querySelectorAll("ul[aria-label=Tasks] input[type=checkbox]")];
      return boxes.map((box) => [box.ariaLabel ?? box.labels[0].innerText, box.checked]);
    }),
  /** Has the browser open as many connections as it may have. */
  connect: (page, url) =>
    // It would ask for the same address once at a time.
    page.evaluate((url) => Promise.all([1, 2, 3, 4, 5, 6].map((part) => fetch(url + part))).then(() => null), url),
  /** All that is to be seen, in the words of a screen reader. */
  see: (page) => page.locator("body").ariaSnapshot(),
  /** Next.js has an alert of its own, which tells a screen reader of a new page. */
  alerts: (page) => page.locator("[role=alert]:not(#__next-route-announcer__)").filter({ visible: true }).allInnerTexts(),
  told: (page) => page.evaluate(() => [...globalThis.told]),
  /** What the focus is on, by its label or text. */
  focused: (page) =>
    page.evaluate(() => {
      const { ariaLabel, labels, innerText } = document.activeElement;
      return ariaLabel ?? labels?.[0]?.innerText ?? innerText;
    }),
  /** How many pixels of it are to the right of the screen. */
  overhang: (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth),
  scheme: (page, colorScheme) => page.emulateMedia({ colorScheme }),
  async faults(page) {
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => globalThis.axe.run({ resultTypes: ["violations"] }));
    const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
    return serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(", ")}`);
  },
  screenshot: (page, path) => page.screenshot({ path }).then(() => null),
  /** Gives the page this token, once, in place of the next one. */
  giveToken: (page, token) => page.route("**/api/token", (route) => route.fulfill({ json: { token } }), { times: 1 }),
  block: (page, url) => page.route(url, (route) => route.abort()),
  // Swagger UI names few of its things.
  find: (page, selector) => page.locator(selector).first().innerText(),
  clickOn: (page, selector) => page.locator(selector).first().click(),
  type: (page, selector, text) => page.locator(selector).first().fill(text),
};

const browserVerbs = {
  newContext,
  takeComplaints: () => complaints.splice(0),
  takeFailures: () => failures.splice(0),
};

async function obey({ id, verb, target, values }) {
  let answer;
  try {
    const run =
      browserVerbs[verb] ??
      contextVerbs[verb]?.bind(null, contexts.get(target)) ??
      pageVerbs[verb].bind(null, pages.get(target));
    answer = { id, result: (await run(...values)) ?? null };
  } catch (error) {
    answer = { id, error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

for await (const line of createInterface({ input: process.stdin })) void obey(JSON.parse(line));
await browser.close();
