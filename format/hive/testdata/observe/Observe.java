// Runs serde classes of Hive on lines of text and prints what they make of them, for observe.py.
//
// stdin, fields separated by tabs, texts in base64: T class columns types {key value} sets a serde up, L line is a line for it.
// stdout: a row a line, as serde_test.go describes it.
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hive.common.type.*;
import org.apache.hadoop.hive.serde2.AbstractSerDe;
import org.apache.hadoop.hive.serde2.objectinspector.*;
import org.apache.hadoop.io.Text;

public class Observe {
  static String quote(String s) {
    StringBuilder b = new StringBuilder("\"");
    for (char c : s.toCharArray()) {
      if (c == '"' || c == '\\') b.append('\\').append(c);
      else if (c < 0x20 || c >= 0x7f) b.append(String.format("\\u%04x", (int) c));
      else b.append(c);
    }
    return b.append('"').toString();
  }

  static String print(Object o) {
    if (o == null) return "null";
    if (o instanceof Boolean || o instanceof Byte || o instanceof Short || o instanceof Integer) return o.toString();
    if (o instanceof Float) return quote("f" + Integer.toHexString(Float.floatToIntBits((Float) o)));
    if (o instanceof Double) return quote("d" + Long.toHexString(Double.doubleToLongBits((Double) o)));
    if (o instanceof byte[]) return quote("b" + Base64.getEncoder().encodeToString((byte[]) o));
    if (o instanceof HiveDecimal) return quote("n" + ((HiveDecimal) o).bigDecimalValue().toPlainString());
    if (o instanceof Timestamp) return quote("t" + o);
    if (o instanceof org.apache.hadoop.hive.common.type.Date) return quote("D" + o);
    if (o instanceof HiveChar) return quote("c" + ((HiveChar) o).getStrippedValue());
    if (o instanceof Long || o instanceof String || o instanceof HiveVarchar) return quote(o.toString());
    if (o instanceof List) {
      StringJoiner j = new StringJoiner(",", "[", "]");
      for (Object x : (List<?>) o) j.add(print(x));
      return j.toString();
    }
    if (o instanceof Map) {
      TreeSet<String> pairs = new TreeSet<>();
      for (Map.Entry<?, ?> e : ((Map<?, ?>) o).entrySet()) pairs.add("[" + print(e.getKey()) + "," + print(e.getValue()) + "]");
      return "{\"m\":[" + String.join(",", pairs) + "]}";
    }
    return quote("?" + o.getClass().getName() + ":" + o);
  }

  static String text(String s) { return new String(Base64.getDecoder().decode(s), StandardCharsets.UTF_8); }

  public static void main(String[] args) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), false);
    AbstractSerDe serde = null;
    ObjectInspector oi = null;
    String failed = null;
    for (String line; (line = in.readLine()) != null;) {
      String[] f = line.split("\t", -1);
      if (f[0].equals("T")) {
        Properties p = new Properties();
        p.setProperty("name", "db.t");
        p.setProperty("columns", text(f[2]));
        p.setProperty("columns.types", text(f[3]));
        for (int i = 4; i + 1 < f.length; i += 2) p.setProperty(text(f[i]), text(f[i + 1]));
        failed = null;
        try {
          serde = (AbstractSerDe) Class.forName(f[1]).getDeclaredConstructor().newInstance();
          try { // of Hive 4, and there in Hive 3
            serde.getClass().getMethod("initialize", Configuration.class, Properties.class, Properties.class)
                .invoke(serde, new Configuration(false), p, new Properties());
          } catch (java.lang.reflect.InvocationTargetException e) {
            throw e.getCause();
          }
          oi = serde.getObjectInspector();
        } catch (Throwable e) {
          failed = quote("INIT " + e);
        }
        continue;
      }
      if (failed != null) {
        out.println(failed);
        continue;
      }
      try {
        Text t = new Text();
        t.set(Base64.getDecoder().decode(f[1]));
        Object row = serde.deserialize(t);
        out.println(row == null ? "\"nullrow\"" : print(ObjectInspectorUtils.copyToStandardJavaObject(row, oi)));
      } catch (Throwable e) {
        out.println(quote("ERR " + e));
      }
    }
    out.flush();
    System.exit(0);
  }
}
