// SHA-256 (FIPS 180-4) and canonical JSON: the export's digest. The browser's own `crypto.subtle` is not offered to every
// page that is opened from disk.
"use strict";
(function (app) {
  const PRIMES = [];
  for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every((prime) => n % prime)) PRIMES.push(n);
  // first 32 bits of the fractional parts of the primes' roots (FIPS 180-4, 4.2.2 and 5.3.3)
  const fraction = (root) => ((root - Math.floor(root)) * 2 ** 32) | 0;
  const ROUND = PRIMES.map((prime) => fraction(Math.cbrt(prime)));
  const START = PRIMES.slice(0, 8).map((prime) => fraction(Math.sqrt(prime)));
  const turn = (word, by) => (word >>> by) | (word << (32 - by));

  function padded(bytes) {
    const whole = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64);
    whole.set(bytes);
    whole[bytes.length] = 0x80;
    const view = new DataView(whole.buffer);
    view.setUint32(whole.length - 8, Math.floor(bytes.length / 2 ** 29));
    view.setUint32(whole.length - 4, (bytes.length << 3) >>> 0);
    return view;
  }

  function schedule(view, offset, words) {
    for (let i = 0; i < 16; i++) words[i] = view.getInt32(offset + 4 * i);
    for (let i = 16; i < 64; i++) {
      const [a, b] = [words[i - 15], words[i - 2]];
      const small = turn(a, 7) ^ turn(a, 18) ^ (a >>> 3);
      const large = turn(b, 17) ^ turn(b, 19) ^ (b >>> 10);
      words[i] = (words[i - 16] + small + words[i - 7] + large) | 0;
    }
  }

  function compress(state, words) {
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const choice = (e & f) ^ (~e & g);
      const first = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + choice + ROUND[i] + words[i]) | 0;
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const second = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + majority) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] = (state[i] + word) | 0));
  }

  /** SHA-256 of bytes (Uint8Array), 64 hexadecimal digits. */
  app.sha256 = function (bytes) {
    const view = padded(bytes);
    const state = START.slice();
    const words = new Int32Array(64);
    for (let offset = 0; offset < view.byteLength; offset += 64) {
      schedule(view, offset, words);
      compress(state, words);
    }
    return state.map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  };

  function byCodePoint(a, b) {
    const [left, right] = [Array.from(a), Array.from(b)];
    for (let i = 0; i < Math.min(left.length, right.length); i++)
      if (left[i] !== right[i]) return left[i].codePointAt(0) - right[i].codePointAt(0);
    return left.length - right.length;
  }

  const text = (value) =>
    JSON.stringify(value).replace(/[\u007f-\uffff]/g, (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"));

  /**
   * JSON as Python's `json.dumps(value, sort_keys=True, separators=(",", ":"))` writes it. Numbers must be whole or have at
   * most three decimals: other numbers are not written alike.
   */
  app.canonical = function canonical(value) {
    if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
    if (value && typeof value === "object") {
      const keys = Object.keys(value).sort(byCodePoint);
      return "{" + keys.map((key) => text(key) + ":" + canonical(value[key])).join(",") + "}";
    }
    return typeof value === "string" ? text(value) : JSON.stringify(value);
  };

  /** Digest of a document without its key `digest`. */
  app.digest = function (document) {
    const { digest, ...rest } = document;
    return app.sha256(new TextEncoder().encode(app.canonical(rest)));
  };
})((window.ct2vqRead = window.ct2vqRead || {}));
