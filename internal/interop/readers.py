"""What each engine reads from a table, as Arrow; and the comparison with what it must read, cell by cell."""
import decimal, glob, json, os, subprocess, sys
import pyarrow as pa, pyarrow.parquet as pq
import duckdb


def plain(t):
    """Without meta columns, views, dictionaries and time zones (all is UTC)."""
    t = t.select([c for c in t.column_names if not c.startswith("_hoodie_")])
    for i, f in enumerate(t.schema):
        to = f.type.value_type if pa.types.is_dictionary(f.type) else f.type
        if pa.types.is_timestamp(to): to = pa.timestamp(to.unit)
        if pa.types.is_string_view(to) or pa.types.is_large_string(to): to = pa.string()
        if pa.types.is_binary_view(to) or pa.types.is_large_binary(to): to = pa.binary()
        if to != f.type:
            t = t.set_column(i, f.name, t.column(i).cast(to))
    return t


def compare(got, want, key="id"):
    """None when got holds exactly the rows, columns and types of want; else what differs."""
    got = plain(got)
    missing, extra = set(want.column_names) - set(got.column_names), set(got.column_names) - set(want.column_names)
    if missing or extra:
        return f"columns missing {sorted(missing)}, extra {sorted(extra)}"
    types = [f"{f.name}: {got.schema.field(f.name).type}, want {f.type}" for f in want.schema if got.schema.field(f.name).type != f.type]
    if types:
        return "types: " + "; ".join(types)
    got = got.select(want.column_names)
    c = duckdb.connect()
    c.execute("SET threads=2")
    c.register("got", got)
    c.register("want", want)
    twice = c.execute(f"SELECT {key}, count(*) FROM got GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 3").fetchall()
    if twice:
        return f"{got.num_rows} rows, want {want.num_rows}; keys more than once: {twice}"
    diff = " OR ".join(f'g."{n}" IS DISTINCT FROM w."{n}"' for n in want.column_names)
    bad = c.execute(f"SELECT g.*, w.* FROM got g FULL JOIN want w ON g.{key} = w.{key} WHERE {diff}").fetchmany(4)
    if not bad:
        return None if got.num_rows == want.num_rows else f"{got.num_rows} rows, want {want.num_rows}"
    n, = c.execute(f"SELECT count(*) FROM got g FULL JOIN want w ON g.{key} = w.{key} WHERE {diff}").fetchone()
    names, k = want.column_names, len(want.column_names)
    out = []
    for r in bad[:3]:
        g, w = dict(zip(names, r[:k])), dict(zip(names, r[k:]))
        if g[key] is None: out.append(f"{key} {w[key]} is missing")
        elif w[key] is None: out.append(f"{key} {g[key]} should not be there")
        else: out.append(f"{key} {w[key]}: " + ", ".join(f"{x} {g[x]!r}, want {w[x]!r}" for x in names if g[x] != w[x]))
    return f"{got.num_rows} rows, want {want.num_rows}; {n} differ: " + "; ".join(out)


def compare_lines(lines, want, order):
    """The canonical JSON lines of lakectl read --sort against the expected ones, in order."""
    want = sorted(want, key=order)
    for i, (l, w) in enumerate(zip(lines, want)):
        g = json.loads(l, parse_float=float)
        if g != w or any(type(g[k]) is not type(w[k]) and not {type(g[k]), type(w[k])} <= {int, float} for k in w):
            d = {k: (g.get(k, "absent"), w.get(k, "absent")) for k in g.keys() | w.keys() if g.get(k, "absent") != w.get(k, "absent")}
            return f"line {i + 1} (id {w.get('id')}): (got, want) {d}; {len(lines)} lines, want {len(want)}"
    return None if len(lines) == len(want) else f"{len(lines)} lines, want {len(want)}"


def spark(worker, path, tmp, opt=None):
    out = f"{tmp}/read-{worker.version}"
    worker.ask(cmd="read", path=path.replace("s3://", "s3a://"), out=out, opt=opt or {})
    return plain(pa.concat_tables([pq.ParquetFile(f).read() for f in sorted(glob.glob(out + "/*.parquet"))]))


def hudi_rs(path, s3=None):
    """In a process of its own: an abort in the library must not end the suite."""
    code = """
import sys, pyarrow as pa
from hudi import HudiTableBuilder, HudiReadOptions
path, endpoint, out = sys.argv[1:]
import os
o = {"aws_endpoint": endpoint, "aws_allow_http": "true", "aws_region": "us-east-1", "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
     "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]} if endpoint else {}
t = HudiTableBuilder.from_base_uri(path).with_options(o).build()
b = [pa.record_batch(x) for x in t.read(HudiReadOptions())]
t = pa.Table.from_batches(b)
t = t.select([c for c in t.column_names if not c.startswith("_hoodie_")])
with pa.OSFile(out, "wb") as f, pa.ipc.new_file(f, t.schema) as w: w.write_table(t)
"""
    import tempfile
    with tempfile.TemporaryDirectory() as d:
        p = subprocess.run([sys.executable, "-c", code, path, s3.endpoint if s3 else "", d + "/t.arrow"], capture_output=True, text=True, timeout=300)
        if p.returncode:
            raise RuntimeError(f"hudi-rs ended with {p.returncode}: " + p.stderr[-1500:])
        return pa.ipc.open_file(pa.OSFile(d + "/t.arrow")).read_all()


def duck(sql, s3=None):
    """Runs the SQL that lakectl view printed and reads the view that it made."""
    c = duckdb.connect()
    c.execute("SET threads=2; SET TimeZone='UTC'")
    if s3:
        import duckdb_extension_httpfs
        ext = glob.glob(os.path.dirname(duckdb_extension_httpfs.__file__) + "/**/*.duckdb_extension", recursive=True)
        c.execute(f"LOAD '{ext[0]}'")
        c.execute(f"CREATE SECRET (TYPE s3, KEY_ID '{os.environ['AWS_ACCESS_KEY_ID']}', SECRET '{os.environ['AWS_SECRET_ACCESS_KEY']}', "
                  f"REGION 'us-east-1', ENDPOINT '127.0.0.1:{s3.port}', URL_STYLE 'path', USE_SSL false)")
    c.execute(sql)
    views = c.execute("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    if len(views) != 1:
        raise RuntimeError(f"the SQL should make one view, made {views}")
    t = c.execute(f'SELECT * FROM "{views[0][0]}"."{views[0][1]}"').arrow()
    t = t.read_all() if hasattr(t, "read_all") else t
    return plain(t)


def trino(server, name, columns):
    """The declared Trino types are compared with the Arrow types' names before the rows are converted."""
    sql = "SELECT " + ", ".join(f'"{f.name}"' for f in columns) + f' FROM "{name}"'
    rows, types = server.query(sql)
    names = {"int64": "bigint", "int32": "integer", "string": "varchar", "double": "double", "float": "real", "bool": "boolean", "date32[day]": "date",
             "timestamp[us]": "timestamp(6)", "binary": "varbinary"}
    for f, (n, ty) in zip(columns, types):
        want = f"decimal({f.type.precision},{f.type.scale})" if pa.types.is_decimal(f.type) else names[str(f.type)]
        if ty.replace(" ", "") != want and not (want == "timestamp(6)" and ty.startswith("timestamp")):
            raise RuntimeError(f"type of {n}: {ty}, want {want}")
    import struct
    f32 = lambda x: None if x is None else struct.unpack("f", struct.pack("f", x))[0]
    cols = list(zip(*rows)) if rows else [()] * len(columns)
    return pa.table([pa.array([f32(x) for x in c] if pa.types.is_float32(f.type) else list(c), f.type) for f, c in zip(columns, cols)], schema=columns)


def hive_type(t):
    if pa.types.is_decimal(t): return f"decimal({t.precision},{t.scale})"
    return {"int64": "bigint", "int32": "int", "string": "string", "double": "double", "float": "float", "bool": "boolean", "date32[day]": "date",
            "timestamp[us]": "timestamp", "binary": "binary"}[str(t)]
