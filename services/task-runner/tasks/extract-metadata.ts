import { extensionOf, folderOf, sizeCategoryOf } from "../../../shared/jobs/files.ts";
import { extractMetadata } from "../../../shared/jobs/list-container.ts";
import type { Containers } from "../containers.ts";
import { defineHandler, type TaskHandler } from "../task-handler.ts";

export function createExtractMetadata(containers: Containers): TaskHandler {
  return defineHandler(extractMetadata, async ({ container, name, metadata_level }, { signal }) => {
    const found = await containers.getProperties(container, name, signal);
    return {
      name,
      size: found.size,
      last_modified: found.lastModified,
      content_type: metadata_level === "basic" ? null : found.contentType,
      etag: metadata_level === "basic" ? null : found.etag,
      metadata: metadata_level === "full" ? { ...found.metadata } : null,
      size_category: sizeCategoryOf(found.size),
      extension: extensionOf(name),
      folder_path: folderOf(name),
      extraction_level: metadata_level,
      success: true,
    };
  });
}
