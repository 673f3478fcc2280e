/** What we use of it; the package brings no types. */
declare module "cli-progress" {
  export interface SingleBar {
    update(value: number): void;
  }
  export class MultiBar {
    constructor(options: {
      readonly format: string;
      readonly barCompleteChar: string;
      readonly barIncompleteChar: string;
      readonly barsize: number;
      readonly hideCursor: boolean;
      readonly gracefulExit: boolean;
    });
    readonly isActive: boolean;
    create(total: number, start: number, payload: Readonly<Record<string, string>>): SingleBar;
    /** Above the bars; the text ends with a newline. */
    log(text: string): void;
    stop(): void;
  }
}
