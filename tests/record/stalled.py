"""A run whose disk does not answer: a trigger makes SQLite itself compute for minutes. Prints JSON.

python stalled.py PATH
"""

import json
import os
import sqlite3
import sys
import time

from record_samples import fill

from defib.record.writer import Writer

FOREVER = """CREATE TRIGGER stall AFTER INSERT ON event BEGIN
  SELECT (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 100000000000)
    SELECT count(*) FROM c);
END"""


def main() -> None:
    writer = Writer.create(sys.argv[1])
    connection = sqlite3.connect(writer.file)
    connection.execute(FOREVER)
    connection.close()
    writer.event(0, "stall", {})
    time.sleep(0.3)
    longest = 0.0
    for step in range(30):
        began = time.perf_counter()
        fill(writer, steps=1, seed=step)
        longest = max(longest, time.perf_counter() - began)
    began = time.perf_counter()
    flushed = writer.flush(0.3)
    flush = time.perf_counter() - began
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(0)
    fork = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    began = time.perf_counter()
    writer.close("finished")
    close = time.perf_counter() - began
    told = {
        "longest": longest,
        "flushed": flushed,
        "flush": flush,
        "fork": fork,
        "child": code,
        "close": close,
    }
    print(json.dumps(told | {"fault": writer.fault}))


if __name__ == "__main__":
    main()
