import * as v from "valibot";

/** Takes secrets out of a text: the body of a message, or what an error says. */
export type Redact = (text: string) => string;

const mark = "[redacted]";
const maxDepth = 100;

/** Names whose values are hidden unless `POISON_REDACT` says otherwise. */
export const defaultRedaction = [
  "password",
  "passwd",
  "pwd",
  "secret",
  "token",
  "key",
  "authorization",
  "connection string",
  "credential",
  "cookie",
  "signature",
  "sig",
  "sas",
];

/**
 * A rule is a list of entries, separated by commas. `/a/b` is the JSON pointer of one value, where `*` stands for any name or index;
 * anything else is the name of a field, found in whatever spelling and at any depth: `api key` is `apiKey`, `API_KEY`, `my-api-key`.
 */
export const RedactionRule = v.pipe(
  v.string(),
  v.transform((text) => text.split(",").map((entry) => entry.trim()).filter((entry) => entry !== "")),
  v.array(v.pipe(v.string(), v.regex(/^(\/.*|[\w -]*[a-z0-9][\w -]*)$/i, "must be names of fields and JSON pointers"))),
  v.transform((entries) => createRedaction(entries)),
);

/** Whatever is JSON keeps its shape; in any other text the values are found behind their names. */
export function createRedaction(entries: readonly string[]): Redact {
  const pointers = entries.filter((entry) => entry.startsWith("/")).map(readPointer);
  const isSecret = createNameCheck(entries.filter((entry) => !entry.startsWith("/")));

  function redactValue(value: unknown, path: readonly string[]): unknown {
    if (pointers.some((pointer) => fits(pointer, path))) return mark;
    if (typeof value === "string") return redactText(value, isSecret);
    if (typeof value !== "object" || value === null) return value;
    if (path.length >= maxDepth) return mark;
    if (Array.isArray(value)) return value.map((item, index) => redactValue(item, [...path, String(index)]));
    return Object.fromEntries(
      Object.entries(value).map(([name, item]) => [
        name,
        isSecret(name) && item !== null ? mark : redactValue(item, [...path, name]),
      ]),
    );
  }

  return (text) => {
    const value = parseJson(text);
    if (typeof value !== "object" || value === null) return redactText(text, isSecret);
    const redacted = JSON.stringify(redactValue(value, []));
    return redacted === JSON.stringify(value) ? text : redacted; // numbers beyond a double's precision stay as they were
  };
}

function readPointer(text: string): readonly string[] {
  return text.slice(1).split("/").map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function fits(pointer: readonly string[], path: readonly string[]): boolean {
  return pointer.length === path.length && pointer.every((name, depth) => name === "*" || name === path[depth]);
}

/** Short names are found as whole words, so that `key` isn't found in `monkey`; longer ones anywhere. */
function createNameCheck(names: readonly string[]): (name: string) => boolean {
  const wanted = names.map(wordsOf);
  return (name) => {
    const words = wordsOf(name);
    const joined = words.join("");
    return wanted.some((parts) => {
      const sought = parts.join("");
      if (sought.length >= 5) return joined.includes(sought);
      return words.some((word) => word === sought || word === `${sought}s`) || joined === sought;
    });
  };
}

function wordsOf(name: string): readonly string[] {
  return name.replace(/([a-z0-9])([A-Z])/g, "$1 $2").toLowerCase().split(/[^a-z0-9]+/).filter((word) => word !== "");
}

/** A name, what stands between it and its value, and where that begins. */
const named = /([A-Za-z][\w.-]{0,99}(?: [A-Za-z]\w{0,30})?)((?:\\*["'])?\s*[:=]\s*)(?=\S)/g;
const alwaysSecret: readonly (readonly [RegExp, string])[] = [
  [/\b(Bearer|Basic) +[\w.~+/=-]{8,}/gi, `$1 ${mark}`],
  [/\beyJ[\w-]{8,2000}\.[\w-]{8,2000}(?:\.[\w-]*)?/g, mark], // a JSON Web Token
  [/(:\/\/[^\s/:@"']*:)[^\s/@"']+@/g, `$1${mark}@`], // a password in a URL
];

function redactText(text: string, isSecret: (name: string) => boolean): string {
  let redacted = "";
  let from = 0;
  for (const match of text.matchAll(named)) {
    const [found, name = ""] = match;
    if (match.index < from || !isSecret(name)) continue;
    const begin = match.index + found.length;
    redacted += text.slice(from, begin) + mark;
    from = begin + lengthOfValue(text.slice(begin));
  }
  redacted += text.slice(from);
  return alwaysSecret.reduce((rest, [pattern, by]) => rest.replace(pattern, by), redacted);
}

/** Of the value that a text begins with; all of it, where nobody can tell: an object of which the end is missing. */
function lengthOfValue(text: string): number {
  const patterns = [
    /^"(?:[^"\\]|\\.)*(?:"|$)/s, // a string, perhaps without an end
    /^\\+"(?:[^"\\]|\\[^"])*(?:\\+"|$)/s, // one within a string
    /^'[^']*(?:'|$)/s,
    /^(?:Bearer|Basic) +\S+/i,
    /^[^\s,;&"'}\])\\{[]+/,
  ];
  for (const pattern of patterns) {
    const [value] = pattern.exec(text) ?? [];
    if (value) return value.length;
  }
  return text.length;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
