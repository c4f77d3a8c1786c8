"""Real Apache Hudi on Spark, one JVM for a whole suite: worker.py HUDI_VERSION. A JSON request per line on stdin, an answer per line on
stdout: {"cmd": "read", "path", "out"}: the snapshot, without meta columns, as Parquet under out;
{"cmd": "count", "path", "where": SQL, "opt"}: how many rows; {"cmd": "keys", "path", "out", "opt"}: the snapshot with meta columns, as Parquet
under out, and how many rows and keys there are; {"cmd": "write", "path", "rows", "op": "upsert"|"delete"|..., "opt": {...}}: the Parquet file rows into the table;
{"cmd": "sql", "sql", "table": PATH or absent}: rows as text; {t} in the text is a table registered at PATH; {"cmd": "query", "sql", "out"}: its rows as Parquet under out; {"cmd": "quit"}."""
import glob, importlib.util, json, os, sys, time

answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)  # the JVM prints on its stdout
os.dup2(2, 1)
version = sys.argv[1]
dir = os.environ.get("LAKECTL_INTEROP_DIR", os.path.expanduser("~/.cache/lakectl-interop"))
tmp = os.environ["INTEROP_TMP"]
here = os.path.dirname(os.path.abspath(__file__))
jars = [f"{dir}/spark/{j}" for j in sorted(os.listdir(f"{dir}/spark")) if not j.startswith("hudi-") or j.endswith(f"-{version}.jar")]
conf = {
    "spark.master": "local[2]",
    "spark.jars": ",".join(jars),
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.driver.extraJavaOptions": f"-Duser.timezone=UTC -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile={here}/log4j2.properties -Djava.io.tmpdir={tmp}",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.local.dir": tmp,
    "spark.sql.warehouse.dir": f"{tmp}/warehouse",
    "spark.serializer": "org.apache.spark.serializer.KryoSerializer",
    "spark.kryo.registrator": "org.apache.spark.HoodieSparkKryoRegistrar",
    "spark.sql.extensions": "org.apache.spark.sql.hudi.HoodieSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.hudi.catalog.HoodieCatalog",
    "spark.hadoop.fs.s3a.endpoint": os.environ.get("INTEROP_S3", "http://127.0.0.1:1"),
    "spark.hadoop.fs.s3a.access.key": os.environ["AWS_ACCESS_KEY_ID"],
    "spark.hadoop.fs.s3a.secret.key": os.environ["AWS_SECRET_ACCESS_KEY"],
    "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
    "spark.hadoop.fs.s3a.path.style.access": "true",
    "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    # the gateway answers deletes of directory markers that are not there with errors, which s3a repeats for minutes
    "spark.hadoop.fs.s3a.directory.marker.retention": "keep",
    "spark.hadoop.fs.s3a.multiobjectdelete.enable": "false",
    # Hudi leaves streams of metadata tables open until they are collected
    "spark.hadoop.fs.s3a.connection.maximum": "1000",
    "spark.hadoop.fs.s3a.attempts.maximum": "3",
    "spark.hadoop.fs.s3a.retry.limit": "3",
}
if hive := os.environ.get("INTEROP_HIVE"):
    lib, own = f"{dir}/hive/lib", os.path.dirname(importlib.util.find_spec("pyspark").origin) + "/jars"
    conf |= {
        "spark.sql.catalogImplementation": "hive",
        "spark.hadoop.hive.metastore.uris": os.environ["INTEROP_HIVE_URI"],
        "spark.sql.warehouse.dir": os.environ["INTEROP_WAREHOUSE"],
        "spark.jars": ",".join(jars + [f"{lib}/{j}" for j in os.listdir(lib) if j.startswith("hive-hcatalog-core")]),
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.hive.exec.dynamic.partition.mode": "nonstrict",
        "spark.hadoop.parquet.avro.write-old-list-structure": "false",  # which has no null elements
    }
    if hive.startswith("4"):  # it has no get_table; of the clients that Spark 3.5 can load, only 3.1 asks get_table_req
        conf |= {"spark.sql.hive.metastore.version": "3.1.3", "spark.sql.hive.metastore.jars": "path",
                 "spark.sql.hive.metastore.jars.path": ",".join(f"file://{j}" for g in (f"{lib}/hive-exec-*", f"{lib}/calcite-*", f"{lib}/javax.servlet*", f"{dir}/hive/3.1.3/lib/lib*303*", f"{own}/commons-*") for j in glob.glob(g))}
os.environ["TZ"] = "UTC"
time.tzset()
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
os.environ["PYSPARK_SUBMIT_ARGS"] = "--driver-memory 2g pyspark-shell"
from pyspark.sql import SparkSession

b = SparkSession.builder.appName("interop")
for k, v in conf.items():
    b = b.config(k, v)
spark = b.getOrCreate()
spark.sparkContext.setLogLevel("ERROR")


registered = {}


def answer(r):
    if r["cmd"] == "read":
        df = spark.read.format("hudi").options(**r.get("opt", {})).load(r["path"])
        df = df.select(*[c for c in df.columns if not c.startswith("_hoodie_")])
        df.write.mode("overwrite").parquet(r["out"])
        return {"schema": df.schema.simpleString()}
    if r["cmd"] == "count":
        return {"count": spark.read.format("hudi").options(**r["opt"]).load(r["path"]).where(r["where"]).count()}
    if r["cmd"] == "keys":
        df = spark.read.format("hudi").options(**r["opt"]).load(r["path"])
        df.write.mode("overwrite").parquet(r["out"])
        n, keys = df.selectExpr("count(*)", "count(distinct _hoodie_record_key)").first()
        return {"rows": n, "keys": keys}
    if r["cmd"] == "write":
        df = spark.read.parquet(r["rows"])
        df.write.format("hudi").options(**r["opt"]).option("hoodie.datasource.write.operation", r["op"]).mode("append").save(r["path"])
        return {}
    if r["cmd"] == "query":
        spark.sql(r["sql"]).write.mode("overwrite").parquet(r["out"])
        return {}
    if r["cmd"] == "sql":
        text = r["sql"]
        if "table" in r:
            if r["table"] not in registered:
                registered[r["table"]] = f"t{len(registered)}"
                spark.sql(f"create table {registered[r['table']]} using hudi location '{r['table']}'")
            text = text.replace("{t}", registered[r["table"]])
        df = spark.sql(text)
        return {"columns": df.columns, "rows": [[None if v is None else str(v) for v in row] for row in df.collect()]}
    raise ValueError(r["cmd"])


print(json.dumps({"ok": True, "hudi": version}), file=answers, flush=True)
for line in sys.stdin:
    r = json.loads(line)
    if r["cmd"] == "quit":
        break
    try:
        a = {"ok": True, **answer(r)}
    except Exception as e:
        a = {"ok": False, "error": "\n".join(l for l in str(e).split("\n") if not l.startswith("\tat "))[:3000]}
    print(json.dumps(a), file=answers, flush=True)
spark.stop()
