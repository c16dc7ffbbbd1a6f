// Server-sent events, asked for again with growing pauses, and not while nobody looks.

const SHORTEST = 1000, LONGEST = 30000; // ms
const HIDDEN = 300000; // ms until a page that nobody sees leaves

export class Stream {
  #source = null;
  #timer = 0;
  #failures = 0;

  // `acts`: what each event does. `lost`: told why nothing comes.
  constructor(url, acts, lost) {
    this.url = url;
    this.acts = acts;
    this.lost = lost;
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => this.#seen());
  }

  connect() {
    this.#leave();
    const source = this.#source = new EventSource(this.url);
    source.addEventListener("error", () => this.#failed(source));
    for (const [name, act] of Object.entries(this.acts)) {
      source.addEventListener(name, (event) => {
        this.#failures = 0;
        act(JSON.parse(event.data));
      });
    }
  }

  #leave() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#source?.close();
    this.#source = null;
  }

  async #failed(source) {
    if (source !== this.#source) return;
    const isRefused = source.readyState === EventSource.CLOSED;
    this.#leave(); // a browser would ask every two seconds, for ever
    const longest = Math.min(LONGEST, SHORTEST * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 10);
    // Many pages do not come back in the same moment.
    this.#timer = setTimeout(() => this.connect(), longest * (0.5 + Math.random() / 2));
    this.lost("The server does not answer.");
    if (!isRefused) return;
    try {
      const answer = await fetch("/api/info");
      if (answer.status === 401) location.reload();
      else if (answer.ok && this.#timer) this.lost("The server has too many viewers.");
    } catch {
      // it is away
    }
  }

  #hurry() {
    if (this.#source === null && !document.hidden) this.connect();
  }

  #seen() {
    if (!document.hidden) {
      if (this.#source === null) this.connect();
      else clearTimeout(this.#timer);
      return;
    }
    if (this.#source === null) return;
    this.#timer = setTimeout(() => {
      this.#leave();
      this.lost("Nobody looked.");
    }, HIDDEN);
  }
}
