// A metastore looks at locations before it registers them. This lets it take those of schemes whose storage it cannot reach.
import java.io.IOException;
import java.net.URI;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.fs.FSDataInputStream;
import org.apache.hadoop.fs.FSDataOutputStream;
import org.apache.hadoop.fs.FileStatus;
import org.apache.hadoop.fs.FileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.permission.FsPermission;
import org.apache.hadoop.util.Progressable;

public class StubFs extends FileSystem {
    private URI uri;

    @Override public void initialize(URI name, Configuration conf) throws IOException {
        super.initialize(name, conf);
        setConf(conf);
        uri = URI.create(name.getScheme() + "://" + (name.getAuthority() == null ? "/" : name.getAuthority()));
    }
    @Override public URI getUri() { return uri; }
    @Override protected void checkPath(Path p) {}
    @Override public FSDataInputStream open(Path f, int size) throws IOException { throw new IOException("no storage behind " + f); }
    @Override public FSDataOutputStream create(Path f, FsPermission p, boolean over, int size, short copies, long block, Progressable g) throws IOException { throw new IOException("no storage behind " + f); }
    @Override public FSDataOutputStream append(Path f, int size, Progressable g) throws IOException { throw new IOException("no storage behind " + f); }
    @Override public boolean rename(Path from, Path to) { return true; }
    @Override public boolean delete(Path f, boolean deep) { return true; }
    @Override public FileStatus[] listStatus(Path f) { return new FileStatus[0]; }
    @Override public void setWorkingDirectory(Path d) {}
    @Override public Path getWorkingDirectory() { return new Path(uri.getScheme() + ":/"); }
    @Override public boolean mkdirs(Path f, FsPermission p) { return true; }
    @Override public FileStatus getFileStatus(Path f) { return new FileStatus(0, true, 1, 0, 0, f); }
}
