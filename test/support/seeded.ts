import fc from "fast-check";

/** `npm test` looks at the same examples each time; a run of the long tests at others, whose seed a failure prints. */
const seed = process.env.SLUICE_LONG_TESTS === "true" ? Date.now() % 2 ** 31 : 20_261_125;
fc.configureGlobal({ seed });

export { fc };
