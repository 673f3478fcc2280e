import { parse } from "../../../shared/contracts/parse.ts";
import { createExtensionTally } from "../../../shared/jobs/files.ts";
import { createFileIndex, IndexedFile } from "../../../shared/jobs/list-container.ts";
import { defineHandler } from "../task-handler.ts";

interface Folder {
  readonly path: string;
  files: number;
  bytes: number;
}

/**
 * Streams the files into the index. They come in the order of their names, so everything below a folder comes in one piece:
 * only the folders around the current file are held.
 */
export const handleCreateFileIndex = defineHandler(createFileIndex, async (params, { jobId, claimId, claimCheck, signal }) => {
  const types = createExtensionTally();
  let fileCount = 0;
  let folderCount = 0;
  let bytes = 0;

  async function* lines() {
    const around: Folder[] = [];
    for await (const line of claimCheck.readLines(params.files_ref, signal)) {
      const file = parse(IndexedFile, line, "contract-violation");
      for (let last = around.at(-1); last && !isWithin(file.folder_path, last.path); last = around.at(-1)) {
        yield close(around.pop() ?? last);
      }
      let folder = around.at(-1);
      if (folder?.path !== file.folder_path) around.push(folder = { path: file.folder_path, files: 0, bytes: 0 });
      folder.files++;
      folder.bytes += file.size;
      fileCount++;
      bytes += file.size;
      types.add(file.extension);
      yield { kind: "file", ...file };
    }
    for (const folder of around.reverse()) yield close(folder);
  }

  function close({ path, files, bytes }: Folder) {
    folderCount++;
    return { kind: "folder", path, files, size_bytes: bytes };
  }

  const indexRef = await claimCheck.writeLines(`${jobId}/index/${claimId}.ndjson`, lines(), signal);
  return {
    container: params.container,
    index_ref: indexRef,
    file_count: fileCount,
    folder_count: folderCount,
    total_size_bytes: bytes,
    type_distribution: types.counts(),
    success: true,
  };
});

function isWithin(path: string, folder: string): boolean {
  return path === folder || folder === "" || path.startsWith(`${folder}/`);
}
