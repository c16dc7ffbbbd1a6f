// The page: one stream of events, and what each of them changes.

import { Chart } from "./chart.js";
import { bytes, bits, amount, clock, count, draw, element, isolated, rows, say, share, show, span, sparkline, time } from "./format.js";

const MOST_POINTS = 900;
const MOST_FLOWS = 200;
const MOST_LOG = 8;
const KINDS = {
  names: "Names asked for, the largest by bytes first",
  hosts: "Hosts, the largest by bytes first",
  services: "Services, the largest by bytes first",
  ports: "Ports, the largest by bytes first",
  prefixes: "Networks, the largest by bytes first",
};

const at = (id) => document.getElementById(id);
const chart = new Chart(at("chart"));

// All that is kept. Each list has a bound.
const kept = { points: [], top: null, flows: [], log: [], state: null, stats: null, known: 0, devices: [] };

// -- the stream --

let source = null;
let retry = 0;

function connect() {
  source?.close();
  source = new EventSource("/api/events");
  source.addEventListener("open", () => { retry = 0; });
  source.addEventListener("error", async () => {
    live("warn", "Reconnecting");
    document.body.dataset.stale = "";
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    retry = Math.min(retry + 1, 6);
    setTimeout(async () => {
      try {
        if ((await fetch("/api/info")).status === 401) location.reload();
      } catch {
        // it does not answer
      }
      connect();
    }, 500 * 2 ** retry);
  });
  for (const [name, act] of Object.entries(ACTS)) {
    source.addEventListener(name, (event) => act(JSON.parse(event.data)));
  }
}

const ACTS = {
  snapshot(data) {
    delete document.body.dataset.stale;
    kept.points = points(data.history.rows);
    kept.log = data.log.slice(-MOST_LOG);
    kept.info = data.info;
    showInfo();
    showState(data.state);
    if (data.stats) showStats(data.stats);
    chart.points = kept.points;
    showTop(data.top);
    at("devices").hidden = !data.watches_devices;
    showDevices(data.devices, data.known);
    flowCounts(data.flows);
    kept.flows = data.flows.flows;
    showFlows();
    showLog();
    if (query()) search();
  },
  stats(data) {
    const last = kept.points.at(-1)?.at ?? 0;
    kept.points.push(...points(data.rows).filter((point) => point.at > last));
    kept.points.splice(0, kept.points.length - MOST_POINTS);
    chart.points = kept.points;
    showStats(data.stats);
  },
  top: showTop,
  devices: (data) => showDevices(data.devices, data.known),
  flows(data) {
    counts.ended += data.flows.length + data.left_out;
    counts.left_out += data.left_out;
    const fits = matcher();
    const found = data.flows.filter(fits).reverse();
    if (paused) {
      waiting += found.length;
      held = [...found, ...held].slice(0, MOST_FLOWS);
    } else {
      kept.flows = [...found, ...kept.flows].slice(0, MOST_FLOWS);
      showFlows();
    }
    showCounts();
  },
  state: showState,
  notes(data) {
    kept.log = [...kept.log, ...data.notes].slice(-MOST_LOG);
    showLog();
  },
  missed: (data) => ACTS.notes({
    notes: [{ ts: new Date().toISOString(), level: "warning", text: `this page was too slow for ${data.count} updates` }],
  }),
};

function points(list) {
  return list.map(([ts, seconds, inbound, outbound, other, packets, flows, received, lost]) => ({
    at: time(ts), seconds, in: inbound, out: outbound, other, packets, flows, received, lost,
  }));
}

// -- the head --

function live(level, text) {
  at("live").dataset.level = level;
  say(at("live-text"), text);
}

function showState(state) {
  const before = kept.state;
  kept.state = state;
  const is = kept.info?.is_file ? "Reading" : "Live";
  const [level, text] = {
    running: ["ok", is], link_down: ["warn", "Link down"], ended: ["idle", "Ended"], failed: ["bad", "Failed"],
  }[state.status];
  live(level, text);
  const banner = at("banner");
  banner.hidden = !["failed", "link_down"].includes(state.status);
  banner.dataset.level = level;
  say(banner, state.message ?? "");
  if (before?.status !== state.status) announce(`Capture: ${text}. ${state.message ?? ""}`);
}

function announce(text) {
  say(at("status"), text);
}

function vital(id, level, value) {
  const box = at(id);
  const before = box.dataset.level;
  box.dataset.level = level;
  show(box.querySelector("dd"), value);
  if (before !== level && before !== "idle" && level !== "ok") {
    announce(`${box.querySelector("dt").textContent}: ${value.join(" ")}`);
  }
}

let lossSeen = 0;

function showStats(stats) {
  kept.stats = stats;
  const { health, rates, traffic } = stats;
  const other = (traffic.internal.bytes + traffic.transit.bytes) * 8 / (stats.seconds || 1);
  show(at("rate-total"), bits(rates.total.bits_per_second));
  show(at("rate-in"), bits(rates.in.bits_per_second));
  show(at("rate-out"), bits(rates.out.bits_per_second));
  show(at("rate-other"), bits(other));
  show(at("rate-packets"), amount(Math.round(rates.total.packets_per_second), "/s"));
  show(at("rate-flows"), amount(Math.round(rates.total.flows_per_second * 10) / 10, "/s"));
  // Loss is that of what the chart shows, so that a moment of it does not pass unseen.
  const recent = kept.points.slice(-60);
  const lost = recent.reduce((sum, point) => sum + point.lost, 0);
  const received = recent.reduce((sum, point) => sum + point.received, 0);
  lossSeen = lost ? lost / (lost + received) : 0;
  vital("vital-loss", lossSeen === 0 ? "ok" : lossSeen < 0.001 ? "warn" : "bad", share(lossSeen));
  vital("vital-books", health.balanced ? "ok" : "bad", [health.balanced ? "even" : "off", ""]);
  vital("vital-table", health.table_fill < 0.8 ? "ok" : health.table_fill < 1 ? "warn" : "bad", share(health.table_fill));
  vital("vital-events", health.events_lost ? "bad" : "ok", count(health.events_lost));
  showFacts();
}

function showInfo() {
  const info = kept.info;
  say(at("interface"), info.interface);
  document.title = `${info.interface} · netring`;
  say(at("version"), info.version);
  const chip = at("backend");
  chip.hidden = !info.backend;
  say(chip, info.attach ? `${info.backend} ${info.attach}` : info.backend);
  vital("vital-notices", info.notices.length ? "warn" : "ok", count(info.notices.length));
  at("notices").replaceChildren(...info.notices.map((text) => element("li", "", isolated(text))));
}

// -- the capture --

function showFacts() {
  const { health, since_start: all } = kept.stats;
  const unkeyed = Object.entries(health.not_keyed).filter(([, number]) => number > 0);
  const facts = [
    ["Running for", span(Math.max(0, time(kept.stats.ts) - time(kept.info.since)) / 1000)],
    ["Traffic", bytes(all.total.bytes)],
    ["Packets", count(all.total.packets)],
    ["Live flows", count(health.flows_live)],
    ["Evicted", count(health.flows_evicted), health.flows_evicted ? "warn" : ""],
    ["Lagged events", count(health.events_lagged), health.events_lagged ? "warn" : ""],
    ["Restarts", count(health.restarts), health.restarts ? "warn" : ""],
    ["Memory", bytes(health.memory)],
    ["CPU", share(health.cpu)],
    ["Without a flow", unkeyed.length ? unkeyed.map(([why, n]) => `${n} ${why.replaceAll("_", " ")}`).join(", ") : "none"],
  ];
  if (health.devices_online !== undefined) {
    facts.splice(4, 0, ["Devices online", [`${health.devices_online} of ${health.devices}`, ""]]);
  }
  if (kept.info.filter) facts.unshift(["Filter", kept.info.filter]);
  const list = at("facts");
  if (list.children.length !== facts.length) {
    list.replaceChildren(...facts.map(() => element("div", "", element("dt"), element("dd"))));
  }
  facts.forEach(([label, value, level], n) => {
    const [name, shown] = list.children[n].children;
    say(name, label);
    list.children[n].dataset.level = level ?? "";
    if (Array.isArray(value)) show(shown, value);
    else if (shown.dataset.shown !== value) {
      shown.dataset.shown = value;
      shown.replaceChildren(isolated(value));
    }
  });
}

function showLog() {
  at("log").replaceChildren(...kept.log.slice().reverse().map((note) => {
    const line = element("li", "", element("time", "", clock(time(note.ts))), isolated(note.text));
    line.dataset.level = note.level;
    line.title = note.text;
    return line;
  }));
}

// -- the largest --

const over = () => document.querySelector("input[name=over]:checked").value;

function cell(tag, classes, role, ...children) {
  const made = element(tag, classes, ...children);
  if (role) made.setAttribute("role", role);
  return made;
}

function topTable(kind, caption) {
  const table = element("table", "bars");
  table.append(
    element("caption", "visually-hidden", caption),
    element("colgroup", "", element("col"), element("col", "activity"), element("col", "bytes")),
  );
  const head = element("tr");
  for (const label of ["Name", "Activity", "Bytes"]) {
    const title = element("th", "", label);
    title.scope = "col";
    head.append(title);
  }
  table.append(element("thead", "visually-hidden", head), element("tbody"));
  const none = element("p", "empty", "Nothing yet.");
  at(`top-${kind}`).replaceChildren(table, none);
}

function topRow() {
  const name = element("th", "", isolated("", "key"), isolated("", "sub"));
  name.scope = "row";
  return element("tr", "", name, element("td", "activity", sparkline()), element("td", "num"));
}

function fillTopRow(row, record, most, kind) {
  const [name, activity, number] = row.children;
  const title = kind === "hosts" || kind === "ports" ? record.name ?? record.key : record.key;
  say(name.children[0], title);
  name.children[0].title = title;
  say(name.children[1], record.name && title !== record.key ? record.key : "");
  draw(activity.firstChild, record.recent);
  show(number, bytes(record.bytes));
  row.style.setProperty("--share", `${(100 * record.bytes / most).toFixed(1)}%`);
}

function showTop(data) {
  kept.top = data;
  const tables = data[over()];
  for (const kind of Object.keys(KINDS)) {
    const list = tables[kind].slice(0, 8);
    const box = at(`top-${kind}`);
    const most = Math.max(1, ...list.map((record) => record.bytes));
    rows(box.querySelector("tbody"), list, (record) => record.key, topRow, (row, record) => fillTopRow(row, record, most, kind));
    box.querySelector(".empty").hidden = list.length > 0;
  }
}

// -- devices --

function deviceRow() {
  const row = cell("tr", "", "row");
  const line = element("div", "line", isolated("", "key"), element("span", "badges"));
  const title = cell("th", "who", "rowheader", line, isolated("", "sub"));
  title.scope = "row";
  row.append(
    title,
    cell("td", "address", "cell", isolated("", "mono"), element("span", "more")),
    cell("td", "activity", "cell", sparkline()),
    cell("td", "num sent", "cell"), cell("td", "num received", "cell"),
    cell("td", "num flows-number", "cell"), cell("td", "num seen", "cell"),
  );
  return row;
}

function fillDeviceRow(row, device) {
  const [who, address, activity, sent, received, flows, seen] = row.children;
  const [line, below] = who.children;
  const [name, badges] = line.children;
  say(name, device.name ?? device.vendor ?? device.mac);
  const vendor = device.vendor ?? (device.random ? "private address" : null);
  say(below, [device.name && vendor, device.name || device.vendor ? device.mac : vendor].filter(Boolean).join(" · "));
  const roles = device.is_gateway ? "gateway" : "";
  if (badges.textContent !== roles) badges.replaceChildren(...(roles ? [element("span", "chip", roles)] : []));
  const known = device.addresses.toSorted((a, b) => a.includes(":") - b.includes(":"));
  say(address.children[0], known[0] ?? "–");
  say(address.children[1], known.length > 1 ? ` +${known.length - 1}` : "");
  address.title = known.join("\n");
  draw(activity.firstChild, device.recent);
  show(sent, bytes(device.bytes_sent));
  show(received, bytes(device.bytes_received));
  show(flows, count(device.flows));
  show(seen, [clock(time(device.last)), ""]);
}

function showDevices(list, known) {
  kept.devices = list;
  kept.known = known;
  rows(at("devices-body"), list, (device) => device.mac, deviceRow, fillDeviceRow);
  say(at("devices-count"), known > list.length ? `${list.length} of ${known}` : String(known));
}

// -- flows --

const counts = { ended: 0, left_out: 0 };
let paused = false;
let waiting = 0;
let held = [];
let asked = 0;

const FIELDS = [
  "proto", "service", "name", "orig_name", "orig_addr", "orig_port", "resp_addr", "resp_port",
  "orig_mac", "resp_mac", "conn_state", "reason",
];
const query = () => at("search").value.trim();

function matcher() {
  const words = query().toLowerCase().split(/\s+/).filter(Boolean);
  return (flow) => {
    if (!words.length) return true;
    const text = FIELDS.map((field) => flow[field] ?? "").join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
}

function place(address, port) {
  if (!port) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}

function flowRow(flow) {
  const row = cell("tr", "", "row");
  const seconds = clock(time(flow.ts));
  const names = (title, below) => title
    ? [isolated(title, "key"), isolated(below, "sub mono")]
    : [isolated(below, "key mono")];
  const from = place(flow.orig_addr, flow.orig_port), to = place(flow.resp_addr, flow.resp_port);
  const title = cell("th", "to", "rowheader", ...names(flow.name, to));
  title.scope = "row";
  title.title = [flow.name, to].filter(Boolean).join("\n");
  const service = element("span", "chip", flow.service ?? flow.proto);
  service.dataset.proto = flow.proto;
  const number = (classes, value) => {
    const made = cell("td", `num ${classes}`, "cell");
    show(made, value);
    return made;
  };
  row.append(
    cell("td", "when", "cell", seconds),
    cell("td", "service", "cell", service),
    cell("td", "from", "cell", ...names(flow.orig_name, from)),
    title,
    number("sent", bytes(flow.orig_bytes)),
    number("received", bytes(flow.resp_bytes)),
    number("lasted", span(flow.duration)),
    cell("td", "state", "cell", flow.proto === "tcp" ? flow.conn_state : flow.reason),
  );
  return row;
}

function showFlows() {
  rows(at("flows-body"), kept.flows, (flow) => flow.id, flowRow, () => {});
  const none = at("flows-empty");
  none.hidden = kept.flows.length > 0;
  say(none, query() ? "No flow holds that." : "No flow has ended yet.");
}

function flowCounts(data) {
  counts.ended = data.ended;
  counts.left_out = data.left_out;
  showCounts();
}

function showCounts() {
  say(at("flows-count"), counts.ended.toLocaleString("en").replaceAll(",", "\u202f"));
  const hints = [];
  if (paused) hints.push(`Paused; ${waiting} more have ended.`);
  if (counts.left_out) hints.push(`${counts.left_out.toLocaleString("en")} flows came too fast to be listed; they count in every sum.`);
  say(at("flows-hint"), hints.join(" "));
  at("flows-hint").hidden = !hints.length;
}

async function search() {
  const number = asked += 1;
  const words = new URLSearchParams({ search: query(), limit: String(MOST_FLOWS) });
  try {
    const answer = await fetch(`/api/flows?${words}`);
    if (!answer.ok || number !== asked) return;
    const found = await answer.json();
    if (number !== asked) return;
    kept.flows = found.flows;
    held = [];
    waiting = 0;
    showFlows();
    showCounts();
    const size = found.flows.length;
    const least = size === MOST_FLOWS ? "At least " : "";
    if (query()) announce(`${least}${size} ${size === 1 ? "flow" : "flows"} found`);
  } catch {
    // the stream tells that the server is away
  }
}

// -- controls --

let typing = 0;
at("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, 200);
});

at("pause").addEventListener("click", () => {
  paused = !paused;
  at("pause").setAttribute("aria-pressed", String(paused));
  if (!paused) {
    kept.flows = [...held, ...kept.flows].slice(0, MOST_FLOWS);
    held = [];
    waiting = 0;
    showFlows();
  }
  showCounts();
});

for (const input of document.querySelectorAll("input[name=over]")) {
  input.addEventListener("change", () => kept.top && showTop(kept.top));
}
for (const input of document.querySelectorAll("input[name=span]")) {
  input.addEventListener("change", () => { chart.span = Number(input.value); });
}

for (const [kind, caption] of Object.entries(KINDS)) topTable(kind, caption);
connect();
