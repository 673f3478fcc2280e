/** A guard taken out of the SQL of the engine, to see that the simulation notices. */
export interface Mutation {
  /** A piece of one statement or fragment, white space as it may be; each `?` is a parameter. It must match exactly one. */
  readonly find: string;
  /** Each `?` is one of the parameters found, in their order; those left over at the end are dropped. */
  readonly replace: string;
}

type Template = TemplateStringsArray;
interface Rewritten {
  readonly strings: Template;
  /** Positions of the original arguments. */
  readonly args: readonly number[];
}

/** Rewrites statements as the mutations say. */
export interface Mutator {
  rewrite(strings: Template, args: readonly unknown[]): { readonly strings: Template; readonly args: readonly unknown[] };
  /** How many different statements each mutation was found in, so far. */
  readonly matches: ReadonlyMap<Mutation, number>;
}

export function createMutator(mutations: readonly Mutation[]): Mutator {
  const matches = new Map<Mutation, number>(mutations.map((mutation) => [mutation, 0]));
  const patterns = mutations.map((mutation) => ({ mutation, pattern: createPattern(mutation.find) }));
  const known = new Map<Template, Rewritten | null>();

  function mutate(strings: Template): Rewritten | null {
    const original = strings.map((text, position) => position === 0 ? text : `\u0001${position - 1}\u0001${text}`).join("");
    let text = original;
    for (const { mutation, pattern } of patterns) {
      const mutated = text.replace(pattern, (...found: unknown[]) => {
        const parameters = found.slice(1, -2).filter((group) => typeof group === "string");
        return mutation.replace.replace(/\?/g, () => parameters.shift() ?? "?");
      });
      if (mutated !== text) matches.set(mutation, (matches.get(mutation) ?? 0) + 1);
      text = mutated;
    }
    if (text === original) return null;
    const parts = text.split("\u0001");
    const mutated = parts.filter((_, position) => position % 2 === 0);
    return {
      strings: Object.assign(mutated, { raw: mutated }),
      args: parts.filter((_, position) => position % 2 === 1).map(Number),
    };
  }

  return {
    matches,
    rewrite(strings, args) {
      if (patterns.length === 0) return { strings, args };
      let rewritten = known.get(strings);
      if (rewritten === undefined) known.set(strings, rewritten = mutate(strings));
      return rewritten
        ? { strings: rewritten.strings, args: rewritten.args.map((position) => args[position]) }
        : { strings, args };
    },
  };
}

function createPattern(find: string): RegExp {
  const escaped = find.trim().split(/\s+/).map((word) =>
    word.replace(/[.*+^${}()|[\]\\]/g, "\\$&").replaceAll("?", "(\u0001\\d+\u0001)")
  );
  return new RegExp(escaped.join("\\s+"));
}
