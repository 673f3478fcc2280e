import { MultiBar, type SingleBar } from "cli-progress";

/** How far several things have come. */
export interface Progress {
  add(name: string, total: number): (done: number) => void;
  /** A line beside the bars. */
  say(line: string): void;
  stop(): void;
}

/** Bars on a terminal; elsewhere a line at each quarter. */
export function createProgress(): Progress {
  return process.stdout.isTTY ? createBars() : createLines();
}

function createBars(): Progress {
  const bars = new MultiBar({
    format: "{name} {bar} {percentage}% {value}/{total} {duration_formatted}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 25,
    hideCursor: true,
    gracefulExit: false, // signals are not its business
  });
  const all: SingleBar[] = [];
  return {
    add(name, total) {
      const bar = bars.create(total, 0, { name: name.padEnd(31) });
      all.push(bar);
      return (done) => bar.update(done);
    },
    say: (line) => all.length > 0 && bars.isActive ? bars.log(`${line}\n`) : console.log(line),
    stop: () => bars.stop(),
  };
}

function createLines(): Progress {
  return {
    add(name, total) {
      let quarter = 0;
      return (done) => {
        const reached = Math.floor((4 * done) / total);
        if (reached > quarter) console.log(`${name}: ${done} of ${total}`);
        quarter = Math.max(quarter, reached);
      };
    },
    say: (line) => console.log(line),
    stop() {},
  };
}
