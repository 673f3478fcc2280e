import type { TestProject } from "vitest/node";
import { openDatabase } from "../../shared/store/database.ts";
import { migrate } from "../../shared/store/migrate.ts";
import { startPostgres } from "./postgres.ts";

declare module "vitest" {
  export interface ProvidedContext {
    /** A server with the database `sluice_template`, migrated. */
    postgresUrl: string;
  }
}

/** One PostgreSQL for the whole run; each test takes a database of its own from its template. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await startPostgres();
  const admin = openDatabase(server.url, { applicationName: "tests", max: 1 });
  await admin`create database sluice_template`;
  await admin.end();
  const template = openDatabase(new URL("/sluice_template", server.url).href, { applicationName: "tests", max: 1 });
  await migrate(template);
  await template.end();
  project.provide("postgresUrl", server.url);
  return () => server.stop();
}
