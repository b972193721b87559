import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Handler of the systemd test: writes down each call. Type and id come first in a line, so no JSON library is needed. */
public class Handler {
  static final Pattern HEAD = Pattern.compile("\"type\":\"([^\"]*)\",\"id\":\"([^\"]*)\"");

  public static void main(String[] args) throws Exception {
    Path calls = Path.of(System.getenv("OUT"), "calls.java");
    Files.createDirectories(calls.getParent());
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      Matcher m = HEAD.matcher(line);
      if (!m.find()) continue;
      String id = m.group(2), answer = "{\"type\":\"ack\",\"id\":\"" + id + "\"}";
      if (m.group(1).equals("message")) {
        Files.writeString(calls, id + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        answer = "{\"type\":\"result\",\"id\":\"" + id + "\",\"status\":\"ok\"}";
      }
      System.out.println(answer);
      System.out.flush();
    }
  }
}
