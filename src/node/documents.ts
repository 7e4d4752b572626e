/** Documents of a server in Node, in a file of SQLite. */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { type Sql, SqlDocuments, type SqlValue } from "../../worker/documents/sqlite.ts";
import type { DocumentStore } from "../../worker/documents/store.ts";

/**
 * The store in a file, which is made unless it is there. What is acknowledged is on the disk. `kernels` is the edge binary
 * (or portable), `indexBytes` as for `SqlDocuments`.
 * @throws Error for a file that cannot be opened, is no database, or is open elsewhere
 */
export function openDocuments(
  file: string,
  kernels: WebAssembly.Module,
  indexBytes: number,
): DocumentStore & Disposable {
  try {
    const database = new DatabaseSync(file);
    // The index in memory is that of one process.
    database.exec(
      "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL",
    );
    const documents = new SqlDocuments(sqlOf(database), kernels, indexBytes);
    return {
      put: async (space, written) => documents.put(space, written),
      get: async (space, id) => documents.get(space, id),
      list: async (space, after, limit) => documents.list(space, after, limit),
      remove: async (ids) => documents.remove(ids),
      search: async (space, vector, query) => documents.search(space, vector, query),
      [Symbol.dispose]: () => database.close(),
    };
  } catch (cause) {
    const problem = "documents cannot be kept there";
    throw new Error(`${file}: ${problem}; is it another file, or another server's?`, { cause });
  }
}

function sqlOf(database: DatabaseSync): Sql {
  const statements = new Map<string, StatementSync>();
  return {
    rows: <T>(query: string, ...values: SqlValue[]) => {
      const statement = statements.get(query) ?? database.prepare(query);
      statements.set(query, statement);
      return statement.iterate(...values) as Iterable<T>;
    },
    transaction: (work) => {
      database.exec("BEGIN IMMEDIATE");
      try {
        work();
        database.exec("COMMIT");
      } catch (error) {
        if (database.isTransaction) database.exec("ROLLBACK");
        throw error;
      }
    },
  };
}
