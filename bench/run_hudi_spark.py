#!/usr/bin/env python3
"""Apache Hudi on Spark 3.5 local[2]: bulk_insert, upsert batches (one commit each), snapshot read, compaction (MOR), small batches.
venv/bin/python run_hudi_spark.py --size M --hudi 1.2.0 --type COW --index RECORD_INDEX [--batches 10] [--small 5] [--out DIR]"""
import argparse, os, shutil, sys, time
T0 = time.perf_counter()
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from common import *
ap = argparse.ArgumentParser()
ap.add_argument("--size", default="S"); ap.add_argument("--hudi", default="1.2.0"); ap.add_argument("--type", default="COW"); ap.add_argument("--index", default="BLOOM")
ap.add_argument("--batches", type=int, default=10); ap.add_argument("--small", type=int, default=0); ap.add_argument("--out", default=OUT)
ap.add_argument("--heap", default="6g"); ap.add_argument("--buckets", default="4"); ap.add_argument("--keep", action="store_true"); ap.add_argument("--note")
ap.add_argument("--conf", action="append", default=[], help="extra hoodie option k=v"); ap.add_argument("--tag", default="")
ap.add_argument("--cores", default="2")
a = ap.parse_args()
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ["PYSPARK_SUBMIT_ARGS"] = (f"--master local[{a.cores}] --driver-memory {a.heap} --jars {JARS}/hudi-spark3.5-bundle_2.12-{a.hudi}.jar "
    "--conf spark.ui.enabled=false --conf spark.serializer=org.apache.spark.serializer.KryoSerializer "
    "--conf spark.kryo.registrator=org.apache.spark.HoodieSparkKryoRegistrar "
    "--conf spark.sql.extensions=org.apache.spark.sql.hudi.HoodieSparkSessionExtension "
    "--conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.hudi.catalog.HoodieCatalog "
    "--conf spark.sql.shuffle.partitions=4 --conf spark.default.parallelism=4 --conf spark.sql.session.timeZone=UTC "
    "--conf spark.sql.parquet.inferTimestampNTZ.enabled=false --conf spark.sql.sources.partitionColumnTypeInference.enabled=false "
    f"--conf spark.sql.warehouse.dir={a.out}/spark-wh --conf spark.driver.extraJavaOptions=-Dderby.system.home={a.out} --conf spark.local.dir={a.out}/spark-tmp pyspark-shell")
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.appName("hudi").getOrCreate()
spark.sparkContext.setLogLevel("ERROR")
spark.range(1).count()
name = f"hudi-spark {a.type} {a.index}" + (f" {a.tag}" if a.tag else "")
table = f"{a.out}/hudi_{a.hudi}_{a.type}_{a.index}{a.tag}_{a.size}"; shutil.rmtree(table, ignore_errors=True)
b = Bench(name, a.hudi, a.size, table, a.note)
b.raw("startup", wall_s=round(time.perf_counter() - T0, 2), cpu_s=round(tree_cpu(), 2), peak_rss_mb=hwm_mb())
opts = {"hoodie.table.name": "orders", "hoodie.datasource.write.table.type": "COPY_ON_WRITE" if a.type == "COW" else "MERGE_ON_READ",
  "hoodie.datasource.write.recordkey.field": "order_id", "hoodie.datasource.write.partitionpath.field": "dt",
  "hoodie.datasource.write.precombine.field": "updated_at", "hoodie.datasource.write.hive_style_partitioning": "true",
  "hoodie.index.type": a.index, "hoodie.upsert.shuffle.parallelism": "4", "hoodie.bulkinsert.shuffle.parallelism": "4", "hoodie.delete.shuffle.parallelism": "4",
  "hoodie.compact.inline": "false", "hoodie.datasource.compaction.async.enable": "false"}
if a.index == "RECORD_INDEX":
    opts["hoodie.metadata.record.index.enable"] = "true"
    if a.hudi >= "1.1": opts["hoodie.metadata.global.record.level.index.enable"] = "true"
if a.index == "BUCKET": opts.update({"hoodie.bucket.index.num.buckets": a.buckets, "hoodie.bucket.index.hash.field": "order_id"})
for c in a.conf: k, v = c.split("=", 1); opts[k] = v
SEL = COLS + ["dt"]
def bulk():
    df = spark.read.parquet(hist(a.size)).select(*SEL, F.lit(False).alias("_hoodie_is_deleted"))
    df.write.format("hudi").options(**opts).option("hoodie.datasource.write.operation", "bulk_insert").mode("overwrite").save(table)
def upsert(f):
    df = spark.read.parquet(f).select(*SEL, (F.col("op") == "d").alias("_hoodie_is_deleted"))
    df.write.format("hudi").options(**opts).option("hoodie.datasource.write.operation", "upsert").mode("append").save(table)
def snap():
    return [(r[0], r[1], r[2]) for r in spark.read.format("hudi").load(table).groupBy("status").agg(F.count("*"), F.sum("amount")).collect()]
def full(key):
    """every column, by an export of the snapshot (not timed)"""
    p = f"{table}_chk"; spark.read.format("hudi").load(table).select(*SEL).write.mode("overwrite").parquet(p)
    ok = check_export(a.size, key, f"{p}/*.parquet"); shutil.rmtree(p); return ok
b.phase("bulk", ROWS[a.size], bulk, None)
b.phase("read_bulk", ROWS[a.size], snap, lambda r: check_agg(a.size, "bulk", r))
for i, f in enumerate(batches(a.size, a.batches)):
    b.phase("upsert", 50_000, lambda: upsert(f), None, i=i)
key = KEY[a.batches]
b.phase("read", expected(a.size, key)["rows"], snap, lambda r: check_agg(a.size, key, r) and full(key))
if a.type == "MOR":
    def compact():
        n = spark.sql(f"CALL run_compaction(op => 'schedule', path => '{table}', options => 'hoodie.compact.inline.max.delta.commits=1')").collect()
        r = spark.sql(f"CALL run_compaction(op => 'run', path => '{table}')").collect(); print("compaction", len(n), len(r), file=sys.stderr)
    b.phase("compaction", expected(a.size, key)["rows"], compact, lambda r: check_export(a.size, key, hudi_latest(table)))   # base files alone must hold the whole state
    b.phase("read_compacted", expected(a.size, key)["rows"], snap, lambda r: check_agg(a.size, key, r))
if a.small:
    for i, f in enumerate(smalls(a.size, a.small)):
        b.phase("small", 100, lambda: upsert(f), None, i=i)
    if a.small == 10 and a.batches == 10: b.phase("read_small", None, snap, lambda r: check_agg(a.size, "small", r))
b.raw("end", ok=full("small") if a.small == 10 and a.batches == 10 else None if a.small else full(key))
spark.stop()
if not a.keep: shutil.rmtree(table, ignore_errors=True)
