// What the reader answered, kept in this browser: IndexedDB, where a write is done only when it is on the disk
// (`durability: "strict"`). localStorage is no place for answers: a killed browser loses its last seconds.
"use strict";
(function (app) {
  const STORES = ["state", "sessions", "answers"];

  const done = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });

  const committed = (transaction) =>
    new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error || new Error("the browser took the answer back"));
      transaction.onerror = () => reject(transaction.error);
    });

  function opened(name) {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => STORES.forEach((store) => request.result.createObjectStore(store));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error("another window keeps the store closed"));
    });
  }

  /** Another window of this browser has taken the pack over: its answers must not be overwritten by ours. */
  class TakenOver extends Error {}
  app.TakenOver = TakenOver;

  class Store {
    constructor(database) {
      this.database = database;
      this.token = Date.now() + "-" + Math.random();
      this.pending = 0;
    }

    /** Be the window that writes, from now on; every other one finds out at its next write. */
    async takeOver() {
      const transaction = this.transaction("readwrite", "strict");
      transaction.objectStore("state").put(this.token, "writer");
      await committed(transaction);
    }

    transaction(mode, durability) {
      return this.database.transaction(STORES, mode, { durability });
    }

    /** Write entries `[store, key, value]` all together or not at all; resolves when they are on the disk. */
    async write(entries, durability = "strict") {
      // what is lost without harm keeps nobody from closing the window
      const counts = durability === "strict" ? 1 : 0;
      this.pending += counts;
      try {
        const transaction = this.transaction("readwrite", durability);
        const finished = committed(transaction);
        let reason = null;
        transaction.objectStore("state").get("writer").onsuccess = (event) => {
          try {
            if (event.target.result !== this.token) throw new TakenOver();
            entries.forEach(([store, key, value]) => transaction.objectStore(store).put(value, key));
          } catch (error) {
            reason = error;
            transaction.abort();
          }
        };
        await finished.catch((error) => {
          throw reason || error;
        });
      } finally {
        this.pending -= counts;
      }
    }

    /** All that was written: `{sessions: Map, answers: Map, settings}`. */
    async read() {
      const transaction = this.transaction("readonly", "relaxed");
      const maps = {};
      for (const name of ["sessions", "answers"]) {
        const store = transaction.objectStore(name);
        const [keys, values] = await Promise.all([done(store.getAllKeys()), done(store.getAll())]);
        maps[name] = new Map(keys.map((key, i) => [key, values[i]]));
      }
      maps.settings = (await done(transaction.objectStore("state").get("settings"))) || {};
      return maps;
    }
  }

  /**
   * The store of a pack, tried out: something is written, read back and compared before the first answer depends on it.
   * Rejects with the browser's reason where it keeps nothing.
   */
  app.openStore = async function (pack) {
    if (!window.indexedDB) throw new Error("the browser has no IndexedDB");
    const store = new Store(await opened("ct2vq-read-" + pack));
    await store.takeOver();
    const probe = { when: Date.now(), text: "Technegas \u2713" };
    await store.write([["state", "probe", probe]]);
    const back = await done(store.transaction("readonly", "relaxed").objectStore("state").get("probe"));
    if (!back || back.when !== probe.when || back.text !== probe.text) throw new Error("what was written did not come back");
    return store;
  };
})((window.ct2vqRead = window.ct2vqRead || {}));
