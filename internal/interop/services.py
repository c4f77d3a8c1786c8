"""The real things, started and stopped by their own process ids, on loopback only."""
import json, os, re, secrets, signal, socket, subprocess, sys, time, urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
DIR = os.environ.get("LAKECTL_INTEROP_DIR", os.path.expanduser("~/.cache/lakectl-interop"))
os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = "interopkey", "interopsecret"
os.environ["AWS_REGION"] = "us-east-1"
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
RUNNING = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, proc, ready, log, seconds=180):
    end = time.time() + seconds
    while time.time() < end:
        if proc.poll() is not None:
            raise SystemExit(f"{what} ended with {proc.returncode}:\n" + open(log, errors="replace").read()[-2000:])
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{what} gave no answer in {seconds} s; see {log}")


def listening(port):
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def start(args, log, **kw):
    p = subprocess.Popen(args, stdout=open(log, "wb"), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, **kw)
    RUNNING.append(p)
    return p


def stop(p):
    """Ends the process and what it started: each has a session of its own."""
    try:
        os.killpg(p.pid, signal.SIGTERM)
        p.wait(15)
        os.killpg(p.pid, signal.SIGKILL)
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, signal.SIGKILL)
        p.wait()
    except ProcessLookupError:
        p.wait()
    if p in RUNNING:
        RUNNING.remove(p)


def stop_all():
    for p in list(RUNNING):
        stop(p)


class Kafka:
    """One KRaft broker and controller."""

    def __init__(self, tmp):
        self.port, control = free_port(), free_port()
        self.brokers = f"127.0.0.1:{self.port}"
        data = f"{tmp}/kafka"
        os.makedirs(data + "/logs")
        with open(f"{data}/server.properties", "w") as f:
            f.write(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{control}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{control}
advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}/logs
num.network.threads=1
num.io.threads=2
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=2
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
auto.create.topics.enable=false
""")
        # what "kafka-storage format" writes, without another JVM
        uuid = lambda: secrets.token_urlsafe(16).replace("-", "a")
        with open(f"{data}/logs/meta.properties", "w") as f:
            f.write(f"version=1\ncluster.id={uuid()}\nnode.id=1\ndirectory.id={uuid()}\n")
        with open(f"{data}/log4j2.yaml", "w") as f:
            f.write('Configuration:\n  Appenders:\n    Console: {name: STDOUT, PatternLayout: {pattern: "[%d] %p %m (%c)%n"}}\n'
                    "  Loggers:\n    Root: {level: INFO, AppenderRef: [{ref: STDOUT}]}\n")
        log = f"{data}/kafka.log"
        self.proc = start(["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Dlog4j2.configurationFile={data}/log4j2.yaml",
                           "-cp", f"{DIR}/kafka/*", "kafka.Kafka", f"{data}/server.properties"], log)
        wait_for("kafka", self.proc, lambda: "Kafka Server started" in open(log, errors="replace").read(), log)
        from confluent_kafka import Producer
        self.producer = Producer({"bootstrap.servers": self.brokers, "enable.idempotence": True, "linger.ms": 20, "log_level": 2,
                                  "queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1 << 20})

    def create_topic(self, name, partitions):
        from confluent_kafka.admin import AdminClient, NewTopic
        admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 2})
        for f in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            f.result(30)

    def produce(self, topic, events, at=0):
        """at is the time that the broker is told, in ms; 0: now."""
        failed = []
        cb = lambda err, _: failed.append(err) if err else None
        for i, (part, key, value) in enumerate(events):
            self.producer.produce(topic, value, key, part, on_delivery=cb, timestamp=at)
            if i % 1000 == 0:
                self.producer.poll(0)
        if self.producer.flush(60) or failed:
            raise SystemExit(f"kafka: events not delivered: {failed[:3]}")
        return len(events)


class S3:
    """versitygw over a directory: the object s3://BUCKET/KEY is the file ROOT/BUCKET/KEY."""

    def __init__(self, tmp):
        self.root = f"{tmp}/s3"
        os.makedirs(self.root)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        env = dict(os.environ, ROOT_ACCESS_KEY=os.environ["AWS_ACCESS_KEY_ID"], ROOT_SECRET_KEY=os.environ["AWS_SECRET_ACCESS_KEY"])
        log = f"{tmp}/s3.log"
        self.proc = start([f"{DIR}/bin/versitygw", "--port", f"127.0.0.1:{self.port}", "posix", self.root], log, env=env)
        wait_for("versitygw", self.proc, lambda: listening(self.port), log)
        os.environ["INTEROP_S3"] = self.endpoint
        os.environ["AWS_ENDPOINT_URL"] = self.endpoint
        os.environ["AWS_ENDPOINT_URL_S3"] = self.endpoint

    def bucket(self, name):
        os.makedirs(f"{self.root}/{name}", exist_ok=True)


class Trino:
    """One node; tables on the local disk and on S3, of a file metastore (catalog hudi) and of Hive Metastores, which need not run
    yet: catalog name -> port."""

    def __init__(self, tmp, s3, metastores={}):
        d = self.dir = f"{tmp}/trino"
        self.port = free_port()
        os.makedirs(f"{d}/catalog")
        os.makedirs(f"{d}/metastore/default")
        with open(f"{d}/metastore/.default.trinoSchema", "w") as f:
            json.dump({"writerVersion": "483", "ownerName": "interop", "ownerType": "USER", "parameters": {}}, f)
        with open(f"{d}/config.properties", "w") as f:
            f.write(f"""node.id=interop
node.environment=interop
node.bind-ip=127.0.0.1
node.internal-address=127.0.0.1
coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port={self.port}
discovery.uri=http://127.0.0.1:{self.port}
plugin.dir={DIR}/trino/plugin
catalog.config-dir={d}/catalog
query.max-memory=1GB
query.max-memory-per-node=1GB
query.max-total-memory=1GB
memory.heap-headroom-per-node=300MB
""")
        storage = f"""fs.local.enabled=true
local.location=/
fs.s3.enabled=true
s3.endpoint={s3.endpoint}
s3.region=us-east-1
s3.path-style-access=true
s3.aws-access-key={os.environ["AWS_ACCESS_KEY_ID"]}
s3.aws-secret-key={os.environ["AWS_SECRET_ACCESS_KEY"]}
"""
        file = f"hive.metastore=file\nhive.metastore.catalog.dir=local://{d}/metastore\nhive.metastore.disable-location-checks=true\n"
        for name, where in [("hudi", file)] + [(n, f"hive.metastore.uri=thrift://127.0.0.1:{p}\n") for n, p in metastores.items()]:
            with open(f"{d}/catalog/{name}.properties", "w") as f:
                f.write("connector.name=hudi\n" + where + storage)
        with open(f"{d}/log.properties", "w") as f:
            f.write("io.trino=INFO\n")
        java = os.environ.get("JAVA25_HOME") or next(f"/usr/lib/jvm/{j}" for j in sorted(os.listdir("/usr/lib/jvm")) if "25" in j)
        log = f"{d}/trino.log"
        self.proc = start([f"{java}/bin/java", "-Xmx1536m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError",
            "-Djdk.attach.allowAttachSelf=true", "-Dfile.encoding=UTF-8", "--enable-native-access=ALL-UNNAMED",
            "--add-modules=jdk.incubator.vector", "--sun-misc-unsafe-memory-access=allow", f"-Dconfig={d}/config.properties",
            f"-Dlog.levels-file={d}/log.properties", "-cp", f"{DIR}/trino/launch:{DIR}/trino/lib/*", "TrinoServer"], log, cwd=d)
        self.log = log

    def wait(self):
        def ready():
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/info", timeout=2) as r:
                return not json.load(r)["starting"]
        wait_for("trino", self.proc, ready, self.log)

    def register(self, name, location, columns, partition_field, partitions):
        """As Hudi's Hive sync registers a copy-on-write table: input format, serde, columns, and every partition (value, path)."""
        def put(d, v):
            os.makedirs(d, exist_ok=True)
            with open(f"{d}/.trinoSchema", "w") as f:
                json.dump(v, f)
        t = f"{self.dir}/metastore/default/{name}"
        meta = ["_hoodie_commit_time", "_hoodie_commit_seqno", "_hoodie_record_key", "_hoodie_partition_path", "_hoodie_file_name"]
        cols = [{"name": c, "type": ty, "properties": {}} for c, ty in [(m, "string") for m in meta] + columns if c != partition_field]
        put(t, {"writerVersion": "483", "owner": "interop", "tableType": "EXTERNAL_TABLE", "dataColumns": cols,
                "partitionColumns": [{"name": partition_field, "type": "string", "properties": {}}],
                "parameters": {"EXTERNAL": "TRUE", "spark.sql.sources.provider": "hudi"},
                "originalStorageFormat": {"serde": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
                                          "inputFormat": "org.apache.hudi.hadoop.HoodieParquetInputFormat",
                                          "outputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"},
                "serdeParameters": {"serialization.format": "1", "path": location}, "externalLocation": location, "columnStatistics": {}})
        esc = lambda x: re.sub(r'["#%\'*/:=?\\\x00-\x1f\x7f{\[\]^]', lambda m: "%%%02X" % ord(m.group(0)), x)
        for value, path in partitions:
            put(f"{t}/{partition_field}={esc(value)}", {"columns": cols, "parameters": {}, "storageFormat": "PARQUET", "serdeParameters": {},
                                                        "externalLocation": f"{location}/{path}", "columnStatistics": {}})

    def query(self, sql, catalog="hudi", schema="default"):
        """Rows and [(column, type)]."""
        import trino
        c = trino.dbapi.connect(host="127.0.0.1", port=self.port, user="interop", catalog=catalog, schema=schema, timezone="UTC").cursor()
        c.execute(sql)
        rows = c.fetchall()
        return rows, [(d[0], d[1]) for d in c.description]


class Metastore:
    """A Hive Metastore of one version, with a database in memory and a warehouse of its own."""

    def __init__(self, version, tmp, port):
        self.version, self.port, self.uri = version, port, f"thrift://127.0.0.1:{port}"
        d = self.dir = f"{tmp}/hms-{version}"
        self.warehouse = f"{d}/warehouse"
        os.makedirs(self.warehouse)
        tasks = "org.apache.hadoop.hive.metastore.events.EventCleanerTask"
        site = {
            "metastore.thrift.bind.host": "127.0.0.1", "javax.jdo.option.ConnectionURL": "jdbc:derby:memory:hms;create=true",
            "javax.jdo.option.ConnectionDriverName": "org.apache.derby.jdbc.EmbeddedDriver", "datanucleus.schema.autoCreateAll": "true",
            "metastore.schema.verification": "false", "metastore.warehouse.dir": f"file://{self.warehouse}",
            "metastore.warehouse.external.dir": f"file://{self.warehouse}",
            "metastore.expression.proxy": "org.apache.hadoop.hive.metastore.DefaultPartitionExpressionProxy",
            "metastore.task.threads.always": tasks, "metastore.task.threads.remote": tasks,
            "metastore.storage.schema.reader.impl": "org.apache.hadoop.hive.metastore.SerDeStorageSchemaReader",
            "hive.metastore.transactional.event.listeners": "", "metastore.metrics.enabled": "false", "fs.defaultFS": "file:///",
        } | {f"fs.{s}.impl": "StubFs" for s in ("local", "s3", "s3a")}
        with open(f"{d}/metastore-site.xml", "w") as f:
            f.write("<configuration>" + "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in site.items()) + "</configuration>")
        with open(f"{d}/log4j2.properties", "w") as f:
            f.write("status=ERROR\nappender.c.type=Console\nappender.c.name=c\nappender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d %p %c{1} %m%n\n"
                    "rootLogger.level=WARN\nrootLogger.appenderRef.c.ref=c\n")
        lib = f"{DIR}/hive/lib"
        jars = sorted(f"{lib}/{j}" for j in os.listdir(lib) if not j.startswith(("hive-", "calcite-")))
        first = [j for j in jars if "slf4j" in j or "commons-logging" in j] if version.startswith("3") else []
        main = ["org.apache.hadoop.hive.metastore.LoopbackHms", str(port)] if version.startswith("3") else ["org.apache.hadoop.hive.metastore.HiveMetaStore", "-p", str(port)]
        self.log = f"{d}/hms.log"
        self.proc = start(["java", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                           *(f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in ("java.lang", "java.net", "java.util", "java.util.concurrent", "java.nio", "sun.nio.ch")),
                           f"-Dderby.stream.error.file={d}/derby.log", f"-Dlog4j.configurationFile={d}/log4j2.properties", f"-Djava.io.tmpdir={d}",
                           "-cp", ":".join([d, f"{DIR}/hive/launch", *first, f"{DIR}/hive/{version}/lib/*", *(j for j in jars if j not in first)]), *main], self.log, cwd=d)

    def wait(self):
        wait_for(f"hive metastore {self.version}", self.proc, lambda: listening(self.port), self.log)


class Spark:
    """A JVM with one Hudi version, and the tables of a metastore where one is given; see spark/worker.py."""

    def __init__(self, version, tmp, hive=None):
        self.version = version
        name = f"spark-{version}" + (f"-hive-{hive.version}" if hive else "")
        os.makedirs(f"{tmp}/{name}")
        self.log = f"{tmp}/{name}.log"
        env = dict(os.environ, INTEROP_TMP=f"{tmp}/{name}")
        if hive:
            env |= {"INTEROP_HIVE": hive.version, "INTEROP_HIVE_URI": hive.uri, "INTEROP_WAREHOUSE": hive.warehouse}
        self.proc = subprocess.Popen([f"{DIR}/venv/bin/python", f"{HERE}/spark/worker.py", version], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=open(self.log, "wb"), text=True, start_new_session=True, env=env)
        RUNNING.append(self.proc)

    def wait(self):
        if not (l := self.proc.stdout.readline()):
            raise SystemExit(f"spark with hudi {self.version} did not start:\n" + open(self.log, errors="replace").read()[-2000:])

    def ask(self, **r):
        self.proc.stdin.write(json.dumps(r) + "\n")
        self.proc.stdin.flush()
        line = self.proc.stdout.readline()
        if not line:
            raise RuntimeError(f"spark with hudi {self.version} died; see {self.log}")
        a = json.loads(line)
        if not a["ok"]:
            raise RuntimeError(a["error"])
        return a
