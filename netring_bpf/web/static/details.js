// One flow with all its fields, as text.

import { bytes, element, isolated, say, span, whole } from "./format.js";

const amount = (value) => {
  const [number, unit] = bytes(value);
  return value < 1000 ? `${value} bytes` : `${whole(value)} bytes (${number} ${unit})`;
};

// The fields that have names, in their order; the others follow by their own.
const FIELDS = new Map([
  ["proto", ["Protocol"]],
  ["service", ["Service"]],
  ["name", ["Name"]],
  ["orig_name", ["From"]],
  ["orig_addr", ["From address"]],
  ["orig_port", ["From port"]],
  ["orig_mac", ["From MAC address"]],
  ["resp_addr", ["To address"]],
  ["resp_port", ["To port"]],
  ["resp_mac", ["To MAC address"]],
  ["start", ["Began"]],
  ["duration", ["Lasted", (value) => span(value).join(" ")]],
  ["orig_bytes", ["Sent", amount]],
  ["orig_packets", ["Sent in packets", whole]],
  ["resp_bytes", ["Received", amount]],
  ["resp_packets", ["Received in packets", whole]],
  ["conn_state", ["State"]],
  ["history", ["History"]],
  ["reason", ["Reason of the end"]],
  ["ts", ["Reported"]],
  ["id", ["Number"]],
]);

export class Details {
  constructor(dialog) {
    this.dialog = dialog;
    this.title = dialog.querySelector("h2");
    this.list = dialog.querySelector("dl");
    dialog.querySelector("button").addEventListener("click", () => dialog.close());
    // A click beside it closes it too.
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  open(flow) {
    say(this.title, `Flow to ${flow.name ?? flow.resp_addr}`);
    const others = Object.keys(flow).filter((field) => !FIELDS.has(field));
    this.list.replaceChildren(...[...FIELDS.keys(), ...others]
      .filter((field) => Object.hasOwn(flow, field) && flow[field] !== "")
      .map((field) => {
        const [label, write] = FIELDS.get(field) ?? [field];
        const value = write ? write(flow[field]) : String(flow[field]);
        return element("div", "", element("dt", "", label), element("dd", "", isolated(value)));
      }));
    this.dialog.showModal();
  }
}
