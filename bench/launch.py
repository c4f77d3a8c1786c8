"""launch.py ACCOUNT COMMAND...: runs COMMAND and writes what it cost to ACCOUNT as JSON. A process of its own, because Linux counts
the memory of the process that starts a program towards the program's peak: a large parent would hide it."""
import json, os, sys, time
t = time.perf_counter()
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, ru = os.wait4(pid, 0)
with open(sys.argv[1], "w") as f:
    json.dump({"exit": os.waitstatus_to_exitcode(status), "wall_s": round(time.perf_counter() - t, 4), "cpu_s": round(ru.ru_utime + ru.ru_stime, 3),
               "peak_rss_mb": round(ru.ru_maxrss / 1024), "io_written": ru.ru_oublock * 512}, f)
