import * as v from "valibot";
import { describe, expect, test } from "vitest";
import { createRedaction, defaultRedaction, RedactionRule } from "./redact.ts";

const redact = createRedaction(defaultRedaction);

describe("JSON", () => {
  test.each([
    ['{"password":"hunter2","user":"ann"}', '{"password":"[redacted]","user":"ann"}'],
    ['{"a":[{"apiKey":"k1","monkey":"chimp","key":7}]}', '{"a":[{"apiKey":"[redacted]","monkey":"chimp","key":"[redacted]"}]}'],
    ['{"AccessToken":{"value":"x"}}', '{"AccessToken":"[redacted]"}'],
    [
      '{"connection_string":"Endpoint=sb://x","CONNECTIONSTRING":1}',
      '{"connection_string":"[redacted]","CONNECTIONSTRING":"[redacted]"}',
    ],
    ['{"text":"login with password=hunter2 please"}', '{"text":"login with password=[redacted] please"}'],
    ['{"inner":"{\\"secret\\":\\"s3\\",\\"n\\":1}"}', '{"inner":"{\\"secret\\":[redacted],\\"n\\":1}"}'],
    ['{"token":null}', '{"token":null}'],
  ])("%s", (text, redacted) => expect(redact(text)).toBe(redacted));

  test("without secrets stays as it is, to the last digit", () => {
    const text = '{ "id": 12345678901234567890, "name": "x" }';
    expect(redact(text)).toBe(text);
  });

  test("of any depth ends", () => {
    const text = `${"[".repeat(200)}"hunter2"${"]".repeat(200)}`;
    expect(redact(text)).toBe(`${"[".repeat(100)}"[redacted]"${"]".repeat(100)}`);
  });
});

describe("other text", () => {
  test.each([
    ["AccountName=a;AccountKey=abc==;Suffix=x", "AccountName=a;AccountKey=[redacted];Suffix=x"],
    ["Authorization: Bearer abcdefgh.ijk", "Authorization: [redacted]"],
    ["sent Bearer abcdefgh12345 to it", "sent Bearer [redacted] to it"],
    ["https://x.net/c?sv=1&sig=abc%3D&se=2", "https://x.net/c?sv=1&sig=[redacted]&se=2"],
    ["postgres://ann:hunter2@host/db", "postgres://ann:[redacted]@host/db"],
    ['{"n":1,"password":"hunt', '{"n":1,"password":[redacted]'],
    ['{"password":"a\\"b","n":1', '{"password":[redacted],"n":1'],
    ['{"b":"{\\"password\\":\\"hunter2\\",\\"n\\":1', '{"b":"{\\"password\\":[redacted],\\"n\\":1'],
    ['{"token":{"value":"hunter2"},"n":', '{"token":[redacted]'],
    ["no secret here, 3 tokens left", "no secret here, 3 tokens left"],
    ["eyJhbGciOiJI.eyJzdWIiOiIx.abc", "[redacted]"],
  ])("%s", (text, redacted) => expect(redact(text)).toBe(redacted));
});

test("a rule of one's own names fields and places", () => {
  const own = v.parse(RedactionRule, "iban, /customer/name, /items/*/note");
  const text = '{"IBAN":"DE1","customer":{"name":"Ann","id":1},"items":[{"note":"a"},{"note":"b"}],"password":"kept"}';
  expect(own(text)).toBe(
    '{"IBAN":"[redacted]","customer":{"name":"[redacted]","id":1},"items":[{"note":"[redacted]"},{"note":"[redacted]"}],"password":"kept"}',
  );
});

test("a rule that can't be read is refused", () => {
  expect(() => v.parse(RedactionRule, "password,(a+)+$")).toThrow("must be names of fields and JSON pointers");
});
