// Starts Trino: what the class of the same name in trino-server-main does.
import io.trino.server.Server;
public final class TrinoServer {
    private TrinoServer() {}
    public static void main(String[] args) { new Server().start("483"); }
}
