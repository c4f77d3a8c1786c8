"""The scripted life of a table: a deterministic source of Debezium JSON change events that also keeps the rows which a
reader must see after them. Nothing here depends on how the events are cut into commits."""
import base64, datetime, decimal, json, random, struct
import pyarrow as pa

REGIONS = ["north", "south", "east", "west", "north-east", "south west", "r_07", "r.08", "r-09", "zürich", "r11", "r12"]
UNAVAILABLE = "__debezium_unavailable_value"
PARTITIONS = 4  # of the topic; a key always goes to the same one
EPOCH = datetime.date(1970, 1, 1)

COLUMNS = [
    ("id", pa.int64(), "long"),
    ("region", pa.string(), "string"),
    ("name", pa.string(), "string"),
    ("amount", pa.decimal128(12, 2), "decimal(12,2)"),
    ("big", pa.decimal128(30, 6), "decimal(30,6)"),
    ("qty", pa.int32(), "int"),
    ("price", pa.float64(), "double"),
    ("ratio", pa.float32(), "float"),
    ("active", pa.bool_(), "boolean"),
    ("created_at", pa.timestamp("us"), "timestamp-micros"),
    ("day", pa.date32(), "date"),
    ("blob", pa.binary(), "bytes"),
    ("note", pa.string(), "string"),
    ("updated_at", pa.int64(), "long"),
]
ADDED = [("coupon", pa.string(), "string"), ("score", pa.int64(), "long")]  # never declared: they show up in the messages
WORDS = "amber birch cliff dune ember fjord glade héron ivory 七 keel lark 🐟 oak pine quartz \"quoted\" back\\slash tab\there".split(" ")


class Shop:
    def __init__(self, seed, topic, decimals="text"):
        self.rng = random.Random(seed)
        self.topic, self.decimals = topic, decimals
        self.rows = {}      # id -> row, what a reader must see
        self.ids = []       # keys ever used, some of them gone
        self.out = []       # (topic partition, key, value) not yet produced
        self.clock = 1_700_000_000_000_000
        self.added = False
        self.next = 0

    # --- what a reader must see
    def columns(self):
        return COLUMNS + (ADDED if self.added else [])

    def expected(self):
        return self.table(self.rows.values())

    def table(self, rows):
        rows = list(rows)
        return pa.table({n: pa.array([r.get(n) for r in rows], t) for n, t, _ in self.columns()})

    def declared(self):
        return {n: d for n, _, d in COLUMNS if n not in ("region", "name", "note")}

    # --- events
    def tick(self):
        self.clock += self.rng.randrange(1, 1000)
        return self.clock

    def new_row(self, id, region=None):
        g = self.rng
        r = {
            "id": id, "region": region or g.choice(REGIONS),
            "name": None if g.random() < 0.05 else " ".join(g.choice(WORDS) for _ in range(3)),
            # three bytes often enough that some of their base64 is all digits
            "amount": None if g.random() < 0.05 else decimal.Decimal(g.choice([1, 1, 119]) * g.randrange(-2**23, 2**23)).scaleb(-2),
            "big": None if g.random() < 0.1 else decimal.Decimal(g.randrange(-10**28, 10**28)).scaleb(-6),
            "qty": g.randrange(-2**31, 2**31),
            "price": None if g.random() < 0.05 else g.uniform(-1e6, 1e6),
            "ratio": struct.unpack("f", struct.pack("f", g.uniform(-1, 1)))[0],
            "active": g.choice([True, False, None]),
            "created_at": datetime.datetime(1969, 12, 1) + datetime.timedelta(microseconds=g.randrange(0, 2 * 10**15)),
            "day": EPOCH + datetime.timedelta(days=g.randrange(-800, 25_000)),
            "blob": None if g.random() < 0.1 else g.randbytes(g.randrange(0, 12)),
            "note": None if g.random() < 0.2 else g.choice(WORDS) * g.randrange(0, 8),
            "updated_at": self.tick(),
        }
        if self.added:
            r["coupon"] = None if g.random() < 0.3 else "C%06d" % g.randrange(10**6)
            r["score"] = None if g.random() < 0.3 else g.randrange(-2**62, 2**62)
        return r

    def image(self, r, **over):
        if r is None:
            return None
        d = {n: r.get(n) for n, _, _ in self.columns()}
        for n, s in (("amount", 2), ("big", 6)):
            v = d[n]
            if v is None:
                continue
            if self.decimals == "text":
                d[n] = format(v, "f")
            else:  # Debezium's decimal.handling.mode=precise: the unscaled value, big endian
                u = int(v.scaleb(s))
                d[n] = base64.b64encode(u.to_bytes(((u if u >= 0 else ~u).bit_length()) // 8 + 1, "big", signed=True)).decode()
        d["created_at"] = (d["created_at"] - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
        d["day"] = (d["day"] - EPOCH).days
        if d["blob"] is not None:
            d["blob"] = base64.b64encode(d["blob"]).decode()
        d.update(over)
        return d

    def emit(self, id, op, before, after):
        ms = self.clock // 1000
        v = {"before": before, "after": after,
             "source": {"version": "3.6.1.Final", "connector": "postgresql", "name": "shop", "ts_ms": ms, "snapshot": "false",
                        "db": "shop", "schema": "public", "table": "orders", "txId": len(self.ids), "lsn": self.clock},
             "op": op, "ts_ms": ms + 7}
        self.out.append((id % PARTITIONS, b'{"id":%d}' % id, json.dumps(v, ensure_ascii=False, separators=(",", ":")).encode()))

    def pick(self):
        while True:
            i = self.rng.randrange(len(self.ids))
            id = self.ids[i]
            if id in self.rows:
                return id
            self.ids[i] = self.ids[-1]
            self.ids.pop()

    def create(self, n, op="c"):
        for _ in range(n):
            self.next += 1
            id = self.next if self.next % 97 else 2**53 + self.next  # past what a double holds
            r = self.rows[id] = self.new_row(id)
            self.ids.append(id)
            self.emit(id, op, None, self.image(r))

    def update(self, n):
        for _ in range(n):
            old = self.rows[self.pick()]
            r = self.new_row(old["id"], old["region"])
            over = {}
            kind = self.rng.random()
            if kind < 0.10:    # an event that is late: it must change nothing
                r["updated_at"] = old["updated_at"] - 1
                self.emit(r["id"], "u", None, self.image(r))
                continue
            if kind < 0.20:    # of the same time: the later arrival wins
                r["updated_at"] = old["updated_at"]
            elif kind < 0.30:  # a column that the source did not send: the stored value stays
                r["note"], over = old["note"], {"note": UNAVAILABLE}
            if not self.added or self.rng.random() < 0.2:
                before = self.image(old)
            else:
                before = None
            self.rows[r["id"]] = r
            self.emit(r["id"], "u", before, self.image(r, **over))

    def delete(self, n):
        for _ in range(n):
            old = self.rows.pop(self.pick())
            self.tick()
            self.emit(old["id"], "d", self.image(old), None)
            self.out.append((old["id"] % PARTITIONS, b'{"id":%d}' % old["id"], None))

    def revive(self, n):
        """Delete and insert again."""
        for _ in range(n):
            id = self.pick()
            old = self.rows[id]
            self.emit(id, "d", self.image(old), None)
            self.out.append((id % PARTITIONS, b'{"id":%d}' % id, None))
            r = self.rows[id] = self.new_row(id, old["region"])
            self.emit(id, "c", None, self.image(r))

    def rekey(self, n):
        """A changed primary key, as Debezium tells it: a delete, a tombstone, an insert."""
        for _ in range(n):
            old = self.rows.pop(self.pick())
            self.next += 1
            self.emit(old["id"], "d", self.image(old), None)
            self.out.append((old["id"] % PARTITIONS, b'{"id":%d}' % old["id"], None))
            r = dict(old, id=2**54 + self.next, updated_at=self.tick())
            self.rows[r["id"]] = r
            self.ids.append(r["id"])
            self.emit(r["id"], "c", None, self.image(r))

    # --- a writer that is not ours: rows that Spark upserts and keys that it deletes
    def foreign(self, updates, creates, deletes):
        up = []
        for _ in range(updates):
            old = self.rows[self.pick()]
            r = self.rows[old["id"]] = self.new_row(old["id"], old["region"])
            up.append(r)
        for _ in range(creates):
            self.next += 1
            r = self.new_row(2**55 + self.next)
            self.rows[r["id"]] = r
            self.ids.append(r["id"])
            up.append(r)
        up = {r["id"]: r for r in up}
        gone = []
        while len(gone) < deletes:
            id = self.pick()
            if id not in up:
                gone.append(self.rows.pop(id))
        return self.table(up.values()), self.table(gone)

    def drain(self):
        out, self.out = self.out, []
        return out


def canonical(table):
    """Rows of an Arrow table in the project's canonical JSON form, as dicts."""
    cols = {}
    for f in table.schema:
        v = table.column(f.name).to_pylist()
        if pa.types.is_decimal(f.type):
            v = [None if x is None else format(x, "f") for x in v]
        elif pa.types.is_timestamp(f.type):
            v = [None if x is None else x.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z" for x in v]
        elif pa.types.is_date(f.type):
            v = [None if x is None else x.isoformat() for x in v]
        elif pa.types.is_binary(f.type):
            v = [None if x is None else base64.b64encode(x).decode() for x in v]
        cols[f.name] = v
    return [dict(zip(cols, r)) for r in zip(*cols.values())]
