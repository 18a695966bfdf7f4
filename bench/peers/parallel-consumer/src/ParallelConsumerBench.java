import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * One repetition of Confluent's parallel-consumer in KEY order: reads the first records of a topic with a handler that
 * does nothing or sleeps, from the first record handled to the last, and prints one result of `orderflow bench`.
 */
public final class ParallelConsumerBench {
  private record Instant(long nanos, long cpuNanos) {
    static Instant now() {
      var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
      return new Instant(System.nanoTime(), system.getProcessCpuTime());
    }
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 5) {
      System.err.println("usage: ParallelConsumerBench BOOTSTRAP TOPIC RECORDS CONCURRENCY SLEEP_MS");
      System.exit(2);
    }
    String topic = arguments[1];
    long records = Long.parseLong(arguments[2]);
    int concurrency = Integer.parseInt(arguments[3]);
    long sleepMs = Long.parseLong(arguments[4]);
    var consumer = new KafkaConsumer<byte[], byte[]>(
        Map.of("bootstrap.servers", arguments[0], "group.id", "parallel-consumer-bench-" + UUID.randomUUID(),
            "auto.offset.reset", "earliest", "enable.auto.commit", "false"),
        new ByteArrayDeserializer(), new ByteArrayDeserializer());
    var processor = ParallelStreamProcessor.createEosStreamProcessor(
        ParallelConsumerOptions.<byte[], byte[]>builder().consumer(consumer).ordering(ProcessingOrder.KEY)
            .maxConcurrency(concurrency).build());
    var handled = new AtomicLong();
    var began = new Instant[1];
    var ended = new Instant[1];
    var done = new CountDownLatch(1);
    processor.subscribe(List.of(topic));
    processor.poll(context -> {
      if (began[0] == null) {
        synchronized (began) {
          if (began[0] == null) began[0] = Instant.now();
        }
      }
      if (sleepMs > 0) {
        try {
          Thread.sleep(sleepMs);
        } catch (InterruptedException interrupted) {
          throw new IllegalStateException(interrupted);
        }
      }
      if (handled.incrementAndGet() == records) {
        ended[0] = Instant.now();
        done.countDown();
      }
    });
    done.await();
    double seconds = (ended[0].nanos() - began[0].nanos()) / 1e9;
    double cpu = (ended[0].cpuNanos() - began[0].cpuNanos()) / 1e9;
    System.out.printf(Locale.ROOT,
        "{\"recordsPerSecond\":%.0f,\"cpuSecondsPerMillion\":%.2f,\"peakRssBytes\":%d}%n",
        records / seconds, cpu / records * 1e6, peakRss());
    processor.close(Duration.ofSeconds(10), io.confluent.parallelconsumer.internal.DrainingCloseable.DrainingMode.DONT_DRAIN);
    System.exit(0);
  }

  private static long peakRss() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM:")) return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
    }
    return 0;
  }
}
