// Writes ORC files with ORC's Java library, which is what Hive and Spark write with, into the folder given: cases that
// gen.py cannot make. Expected timestamps are what the library reads in UTC and the proleptic calendar, as Hive 4 does.
//
//     java -cp 'PYSPARK/jars/*' Gen.java FOLDER

import java.io.PrintWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import java.util.Random;
import java.util.TimeZone;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.hive.common.type.HiveDecimal;
import org.apache.hadoop.hive.ql.exec.vector.*;
import org.apache.hadoop.hive.serde2.io.HiveDecimalWritable;
import org.apache.orc.*;

public class Gen {
  static final String[] OLD = {"0001-01-03 00:00:00", "0004-02-29 11:22:33.5", "1000-03-01 00:00:00.000001", "1500-02-28 10:00:00",
    "1582-10-04 23:59:59.999999", "1582-10-15 00:00:00", "1700-06-01 12:00:00", "1883-11-18 12:03:57", "1899-12-31 23:59:59.123",
    "1900-01-01 00:00:01", "1900-12-31 23:59:59", "1941-03-16 05:00:00", "1969-12-31 23:59:58.25", "1969-12-31 23:59:59.5",
    "1969-12-31 23:59:59", "1969-12-31 23:59:58.000999", "1970-01-01 00:00:00", "1970-01-01 05:29:59.5", "1972-10-29 01:30:00", "1986-05-04 05:00:00",
    "2011-04-03 01:45:00", "2014-12-31 23:59:59.999999999", "2015-01-01 00:00:00", "2023-11-05 01:30:00", "2024-03-10 03:00:00.1", "2024-07-01 00:00:00.12",
    "2037-12-31 00:00:00.123456", "2500-07-01 03:00:00", "9999-12-30 23:59:59.999999"};
  static final Configuration conf = new Configuration();
  static String dir;

  interface Fill { void row(int i, VectorizedRowBatch b); }

  static OrcFile.WriterOptions options(TypeDescription t) { return OrcFile.writerOptions(conf).setSchema(t).compress(CompressionKind.ZLIB); }

  static void write(String name, TypeDescription t, OrcFile.WriterOptions o, VectorizedRowBatch b, int rows, int flush, Fill fill) throws Exception {
    Files.deleteIfExists(Paths.get(dir, name + ".orc"));
    Writer w = OrcFile.createWriter(new Path("file://" + dir + "/" + name + ".orc"), o);
    w.addUserMetadata("made.by", ByteBuffer.wrap("Gen".getBytes(StandardCharsets.UTF_8)));
    for (int i = 0; i < rows; i++) {
      fill.row(b.size++, b);
      if (b.size == flush || i == rows - 1) {
        w.addRowBatch(b);
        b.reset();
        if (i < rows - 1) w.writeIntermediateFooter();
      }
    }
    w.close();
    Files.deleteIfExists(Paths.get(dir, "." + name + ".orc.crc"));
  }

  static PrintWriter lines(String name) throws Exception { return new PrintWriter(dir + "/" + name + ".jsonl", "UTF-8"); }

  static String stamp(TimestampColumnVector v, int i) {
    if (v.isRepeating) i = 0;
    LocalDateTime t = LocalDateTime.ofEpochSecond(Math.floorDiv(v.time[i], 1000L), v.nanos[i], ZoneOffset.UTC);
    return t.format(DateTimeFormatter.ofPattern("uuuu-MM-dd'T'HH:mm:ss.SSSSSS'Z'"));
  }

  // Timestamps of all ages by a writer in a zone, and dates.
  static void zone(String name, String zone, boolean utc, boolean proleptic) throws Exception {
    TypeDescription t = TypeDescription.fromString("struct<d:date,i:int,ts:timestamp,tz:timestamp with local time zone>");
    TimeZone was = TimeZone.getDefault();
    TimeZone.setDefault(TimeZone.getTimeZone(zone));
    VectorizedRowBatch b = t.createRowBatch();
    DateColumnVector d = (DateColumnVector) b.cols[0];
    TimestampColumnVector ts = (TimestampColumnVector) b.cols[2], tz = (TimestampColumnVector) b.cols[3];
    OrcFile.WriterOptions o = options(t).useUTCTimestamp(utc).setProlepticGregorian(proleptic);
    write(name, t, o, b, OLD.length, 0, (i, x) -> {
      if (i == 0 && (utc || proleptic)) {
        d.changeCalendar(proleptic, false);
        ts.setIsUTC(utc);
        ts.changeCalendar(proleptic, false);
        tz.changeCalendar(proleptic, false);
      }
      ((LongColumnVector) b.cols[1]).vector[i] = i;
      LocalDateTime wall = LocalDateTime.parse(OLD[i].replace(' ', 'T'));
      Timestamp v = Timestamp.valueOf(OLD[i]);
      if (utc || proleptic) {
        v = new Timestamp(wall.toEpochSecond(ZoneOffset.UTC) * 1000); // a wall clock in UTC and the proleptic calendar
        v.setNanos(wall.getNano());
      }
      d.vector[i] = proleptic ? wall.toLocalDate().toEpochDay() : Math.floorDiv(Timestamp.valueOf(OLD[i]).getTime() + TimeZone.getDefault().getOffset(Timestamp.valueOf(OLD[i]).getTime()), 86400000L);
      ts.set(i, v);
      tz.set(i, v);
    });
    TimeZone.setDefault(was);
    Reader r = OrcFile.createReader(new Path("file://" + dir + "/" + name + ".orc"), OrcFile.readerOptions(conf).useUTCTimestamp(true).convertToProlepticGregorian(true));
    try (PrintWriter p = lines(name); RecordReader rows = r.rows()) {
      VectorizedRowBatch in = r.getSchema().createRowBatch();
      for (int n = 0; rows.nextBatch(in); ) {
        for (int i = 0; i < in.size; i++, n++) {
          p.printf("{\"d\":\"%s\",\"i\":%d,\"ts\":\"%s\",\"tz\":\"%s\"}%n", LocalDate.ofEpochDay(((LongColumnVector) in.cols[0]).vector[i]).toString(), n,
              stamp((TimestampColumnVector) in.cols[2], i), stamp((TimestampColumnVector) in.cols[3], i));
        }
      }
    }
  }

  static void text(ColumnVector v, int i, String s) {
    ((BytesColumnVector) v).setVal(i, s.getBytes(StandardCharsets.UTF_8));
  }

  // Decimals with the scale of each value, char and varchar, in both versions of the file; encoded as dictionary where few.
  static void values(String name, OrcFile.Version version, boolean dictionary) throws Exception {
    TypeDescription t = TypeDescription.fromString("struct<c:char(5),d:decimal(10,3),e:decimal(38,18),i:bigint,s:string,v:varchar(3)>");
    OrcFile.WriterOptions o = options(t).version(version).compress(CompressionKind.SNAPPY);
    conf.set("orc.dictionary.key.threshold", dictionary ? "1.0" : "0.0");
    Random rnd = new Random(7);
    StringBuilder out = new StringBuilder();
    write(name, t, o, t.createRowBatch(), 120, 0, (i, b) -> {
      String c = new String[] {"a", "ab  ", "grün", "日本語", ""}[rnd.nextInt(5)];
      String s = "word " + rnd.nextInt(9);
      HiveDecimal d = HiveDecimal.create(java.math.BigDecimal.valueOf(rnd.nextInt(2000000) - 1000000, rnd.nextInt(4)));
      HiveDecimal e = HiveDecimal.create(new java.math.BigDecimal(new java.math.BigInteger(rnd.nextInt(120), rnd), 18).multiply(java.math.BigDecimal.valueOf(rnd.nextBoolean() ? 1 : -1)));
      long n = rnd.nextInt(20) == 0 ? rnd.nextLong() : rnd.nextInt(100);
      boolean none = rnd.nextInt(6) == 0;
      text(b.cols[0], i, c);
      ((DecimalColumnVector) b.cols[1]).set(i, d);
      if (none) {
        b.cols[2].noNulls = false;
        b.cols[2].isNull[i] = true;
      } else {
        b.cols[2].isNull[i] = false;
        ((DecimalColumnVector) b.cols[2]).set(i, e);
      }
      ((LongColumnVector) b.cols[3]).vector[i] = n;
      text(b.cols[4], i, s);
      text(b.cols[5], i, c.substring(0, Math.min(3, c.length())));
      String big = none ? "null" : '"' + e.bigDecimalValue().setScale(18).toPlainString() + '"';
      out.append(String.format("{\"c\":\"%s\",\"d\":\"%s\",\"e\":%s,\"i\":%d,\"s\":\"%s\",\"v\":\"%s\"}%n", c.stripTrailing(), d.bigDecimalValue().setScale(3).toPlainString(), big, n, s,
          c.substring(0, Math.min(3, c.length()))));
    });
    conf.unset("orc.dictionary.key.threshold");
    try (PrintWriter p = lines("java_values")) { p.print(out); } // the same in all three
  }

  static void decimal64() throws Exception {
    TypeDescription t = TypeDescription.fromString("struct<a:decimal(18,4),b:decimal(30,4),c:decimal(5,0)>");
    Random rnd = new Random(8);
    StringBuilder out = new StringBuilder();
    write("java_decimal64", t, options(t).version(OrcFile.Version.UNSTABLE_PRE_2_0), t.createRowBatchV2(), 100, 0, (i, b) -> {
      long a = rnd.nextLong() % 1000000000000000000L, c = rnd.nextInt(99999);
      ((Decimal64ColumnVector) b.cols[0]).vector[i] = a;
      ((DecimalColumnVector) b.cols[1]).set(i, HiveDecimal.create(java.math.BigDecimal.valueOf(a, 2)));
      ((Decimal64ColumnVector) b.cols[2]).vector[i] = c;
      out.append(String.format("{\"a\":\"%s\",\"b\":\"%s\",\"c\":\"%d\"}%n", java.math.BigDecimal.valueOf(a, 4).toPlainString(), java.math.BigDecimal.valueOf(a, 2).setScale(4).toPlainString(), c));
    });
    try (PrintWriter p = lines("java_decimal64")) { p.print(out); }
  }

  public static void main(String[] args) throws Exception {
    dir = Paths.get(args[0]).toAbsolutePath().normalize().toString();
    TimeZone.setDefault(TimeZone.getTimeZone("UTC"));
    zone("java_los_angeles", "America/Los_Angeles", false, false);
    zone("java_kolkata", "Asia/Kolkata", false, false);
    zone("java_dublin", "Europe/Dublin", false, false);
    zone("java_lord_howe", "Australia/Lord_Howe", false, false);
    zone("java_shanghai", "Asia/Shanghai", false, false);
    zone("java_custom", "GMT+05:30", false, false);
    zone("java_pst", "PST", false, false);
    zone("java_hive", "Europe/Berlin", true, false); // as Hive 3.1 and 4 write: wall clocks as if in UTC
    zone("java_proleptic", "UTC", true, true);
    values("java_values", OrcFile.Version.V_0_12, false);
    values("java_values_dictionary", OrcFile.Version.V_0_12, true);
    values("java_values_v11", OrcFile.Version.V_0_11, true);
    decimal64();

    TypeDescription t = TypeDescription.fromString("struct<i:bigint,s:string>");
    write("stripes", t, options(t), t.createRowBatch(), 2500, 1000, (i, b) -> {
      LongColumnVector v = (LongColumnVector) b.cols[0];
      long n = i == 0 ? (v.vector[1023]) : v.vector[i - 1] + 1; // goes on where the batch before ended
      v.vector[i] = n;
      if (i == 999) v.vector[1023] = n + 1;
      text(b.cols[1], i, (n + ",").repeat(20));
    });

    InMemoryKeystore keys = new InMemoryKeystore().addKey("pii", EncryptionAlgorithm.AES_CTR_128, new byte[16]);
    t = TypeDescription.fromString("struct<i:int,secret:struct<s:string>,after:string>");
    write("encrypted", t, options(t).setKeyProvider(keys).encrypt("pii:secret"), t.createRowBatch(), 50, 0, (i, b) -> {
      ((LongColumnVector) b.cols[0]).vector[i] = i;
      text(((StructColumnVector) b.cols[1]).fields[0], i, "secret " + i);
      text(b.cols[2], i, "after " + i);
    });
    t = TypeDescription.fromString("struct<i:int,u:uniontype<int,string>>");
    write("union", t, options(t), t.createRowBatch(), 0, 0, (i, b) -> { });
  }
}
