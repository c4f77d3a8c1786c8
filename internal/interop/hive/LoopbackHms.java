// Metastore 3.1 has no setting for the address that it listens on, and takes every interface; this starts its handler on
// 127.0.0.1 alone.
package org.apache.hadoop.hive.metastore;

import java.net.InetSocketAddress;
import org.apache.hadoop.hive.metastore.api.ThriftHiveMetastore;
import org.apache.hadoop.hive.metastore.conf.MetastoreConf;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.server.TThreadPoolServer;
import org.apache.thrift.transport.TServerSocket;
import org.apache.thrift.transport.TTransportFactory;

public final class LoopbackHms {
    private LoopbackHms() {}

    public static void main(String[] args) throws Exception {
        ThriftHiveMetastore.Iface handler = HiveMetaStore.newRetryingHMSHandler("hms", MetastoreConf.newMetastoreConf(), false);
        TServerSocket socket = new TServerSocket(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
        new TThreadPoolServer(new TThreadPoolServer.Args(socket).processor(new TSetIpAddressProcessor<ThriftHiveMetastore.Iface>(handler))
            .transportFactory(new TTransportFactory()).protocolFactory(new TBinaryProtocol.Factory()).minWorkerThreads(2).maxWorkerThreads(64)).serve();
    }
}
