import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import * as v from "valibot";

/** One tab of a real Chromium, without a window. */
export interface Browser {
  /** Loads a page at this size, as a phone or a desk has it. */
  show(url: string, size: { width: number; height: number; dark?: boolean }): Promise<void>;
  /** The value of an expression in the page. */
  evaluate(expression: string): Promise<unknown>;
  /** What can be seen of it, as PNG. */
  screenshot(): Promise<Buffer>;
  /** The pages it is printed on, as PDF. */
  print(): Promise<Buffer>;
  close(): Promise<void>;
}

const Answer = v.object({
  id: v.optional(v.number()),
  method: v.optional(v.string()),
  result: v.optional(v.record(v.string(), v.unknown())),
  error: v.optional(v.object({ message: v.string() })),
});
const Base64 = v.pipe(v.string(), v.transform((text) => Buffer.from(text, "base64")));

/** Rejects if there is no `chromium` on this machine (Debian: `apt-get install chromium`). */
export async function openBrowser(): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), "sluice-browser-"));
  const args = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", `--user-data-dir=${profile}`];
  const chromium = spawn("chromium", [...args, "about:blank"], { stdio: ["ignore", "ignore", "pipe"] });
  const address = await new Promise<string>((resolve, reject) => {
    chromium.once("error", reject);
    chromium.once("exit", (code) => reject(new Error(`chromium ended with ${code}`)));
    createInterface({ input: chromium.stderr }).on("line", (line) => {
      const found = /DevTools listening on ws:\/\/([^/]+)/.exec(line)?.[1];
      if (found) resolve(found);
    });
  });
  const tabs = v.parse(
    v.array(v.object({ type: v.string(), webSocketDebuggerUrl: v.string() })),
    await (await fetch(`http://${address}/json/list`)).json(),
  );
  const socket = new WebSocket(tabs.find(({ type }) => type === "page")?.webSocketDebuggerUrl ?? "");
  await once(socket, "open");

  const waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  let loaded = Promise.withResolvers<void>();
  let calls = 0;
  socket.addEventListener("message", ({ data }) => {
    const { id, method, result, error } = v.parse(Answer, JSON.parse(String(data)));
    if (method === "Page.loadEventFired") loaded.resolve();
    if (id === undefined) return;
    if (error) waiting.get(id)?.reject(new Error(error.message));
    else waiting.get(id)?.resolve(result ?? {});
    waiting.delete(id);
  });
  async function call(method: string, params: Record<string, unknown> = {}): Promise<Record<string, unknown>> {
    const answer = Promise.withResolvers<Record<string, unknown>>();
    waiting.set(++calls, answer);
    socket.send(JSON.stringify({ id: calls, method, params }));
    return await answer.promise;
  }

  await call("Page.enable");
  return {
    async show(url, { width, height, dark = false }) {
      await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
      const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
      await call("Emulation.setEmulatedMedia", { features });
      loaded = Promise.withResolvers<void>();
      await call("Page.navigate", { url });
      await loaded.promise;
    },
    async evaluate(expression) {
      const { result } = v.parse(
        v.object({ result: v.object({ value: v.unknown() }) }),
        await call("Runtime.evaluate", { expression, returnByValue: true }),
      );
      return result.value;
    },
    screenshot: async () => v.parse(Base64, (await call("Page.captureScreenshot", { format: "png" })).data),
    print: async () => v.parse(Base64, (await call("Page.printToPDF", { paperWidth: 8.27, paperHeight: 11.69 })).data),
    async close() {
      socket.close();
      const ended = once(chromium, "exit");
      chromium.kill();
      await ended;
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
