"""Programs that old systems speak HTTP with, against the door."""

import json
import shutil
import subprocess
import threading

import pytest

GOOD = json.dumps({"store_id": 1, "items": ["MILK"]})
JAVA = """
import java.io.*; import java.net.*; import java.nio.charset.StandardCharsets;
public class Ask {
  public static void main(String[] a) throws Exception {
    for (int n = 0; n < 3; n++) {
      HttpURLConnection c = (HttpURLConnection) new URL(a[0]).openConnection();
      c.setRequestMethod("POST"); c.setDoOutput(true); c.setRequestProperty("Content-Type", "application/json");
      if (n == 1) c.setChunkedStreamingMode(7);
      c.getOutputStream().write(a[1].getBytes(StandardCharsets.UTF_8));
      String answer = new String(c.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      if (n == 2) System.out.print(answer);
    }
    var request = java.net.http.HttpRequest.newBuilder(URI.create(a[0])).header("Content-Type", "application/json")
      .POST(java.net.http.HttpRequest.BodyPublishers.ofString(a[1])).build();
    var h2c = java.net.http.HttpClient.newHttpClient();
    for (int n = 0; n < 2; n++)
      if (h2c.send(request, java.net.http.HttpResponse.BodyHandlers.ofString()).statusCode() != 200) System.exit(9);
  }
}
"""
PERL = """
use HTTP::Tiny;
my $http = HTTP::Tiny->new(keep_alive => 1);
for (1, 2) {
  my $answer = $http->post($ARGV[0], {headers => {'Content-Type' => 'application/json'}, content => $ARGV[1]});
  die $answer->{status} unless $answer->{success};
  print $answer->{content} if $_ == 2;
}
"""
CURL = ["curl", "-sS", "--fail", "-H", "Content-Type: application/json"]
CLIENTS = {
    "curl": [*CURL, "-d", GOOD],
    "curl HTTP/1.0": [*CURL, "--http1.0", "-d", GOOD],
    "curl Expect": [*CURL, "-H", "Expect: 100-continue", "-d", GOOD],
    "curl chunked": [*CURL, "-H", "Transfer-Encoding: chunked", "-d", GOOD],
    "curl HTTP/2 upgrade": [*CURL, "--http2", "-d", GOOD],
    "wget": ["wget", "-q", "-O", "-", "--header", "Content-Type: application/json", "--post-data", GOOD],
    "perl": ["perl", "-e", PERL],
    "java": ["java", "{folder}/Ask.java"],
}


@pytest.fixture
def url(handler):
    """A door over the till."""
    import asyncio
    import socket

    from brownfield.serving.gateway import Door

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    state, ready = {}, threading.Event()

    async def serve():
        door, state["end"], state["loop"] = Door(handler), asyncio.Event(), asyncio.get_running_loop()
        await door.start(listener)
        ready.set()
        await state["end"].wait()
        await door.drain(1)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{port}/v1/till/predict"
    state["loop"].call_soon_threadsafe(state["end"].set)
    thread.join(10)


@pytest.mark.full
@pytest.mark.parametrize("name", CLIENTS)
def test_foreign_programs_get_their_answer(url, tmp_path, name):
    """Unchanged, in the ways in which they are used; one that is not installed is skipped."""
    program = CLIENTS[name][0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    (tmp_path / "Ask.java").write_text(JAVA, encoding="utf-8")
    command = [part.replace("{folder}", str(tmp_path)) for part in CLIENTS[name]]
    done = subprocess.run(
        [*command, url, *([GOOD] if program in {"perl", "java"} else [])], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prediction"]["items"] == ["MILK"]
