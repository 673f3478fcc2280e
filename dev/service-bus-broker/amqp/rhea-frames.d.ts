/** What we use of it; the package declares only its main module. */
declare module "rhea/lib/frames.js" {
  interface Frames {
    disposition(fields: {
      readonly role: boolean;
      readonly first: number;
      readonly last: number;
      readonly settled: boolean;
      readonly state: unknown;
    }): unknown;
  }
  const frames: Frames;
  export default frames;
}
