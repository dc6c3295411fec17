"""Programs that old systems speak HTTP with, against the door."""

import asyncio
import json
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from brownfield.serving.gateway import Door
from harness.certificates import make_certificate

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
LWP = """
use LWP::UserAgent;
my $agent = LWP::UserAgent->new(keep_alive => 1);
for (1, 2) {
  my $answer = $agent->post($ARGV[0], 'Content-Type' => 'application/json', Content => $ARGV[1]);
  die $answer->status_line unless $answer->is_success;
  print $answer->content if $_ == 2;
}
"""
PHP = """
$ask = fn($version) => file_get_contents($argv[1], false, stream_context_create(['http' => [
  'method' => 'POST', 'header' => "Content-Type: application/json\\r\\n", 'content' => $argv[2],
  'protocol_version' => $version, 'timeout' => 30]]));
foreach ([1.0, 1.1] as $version) { $answer = $ask($version); if ($answer === false) exit(9); }
echo $answer;
"""
CURL = ["curl", "-sS", "--fail", "-H", "Content-Type: application/json"]
CLIENTS = {
    "curl": [*CURL, "-d", GOOD],
    "curl HTTP/1.0": [*CURL, "--http1.0", "-d", GOOD],
    "curl Expect": [*CURL, "-H", "Expect: 100-continue", "-d", GOOD],
    "curl chunked": [*CURL, "-H", "Transfer-Encoding: chunked", "-d", GOOD],
    "curl HTTP/2 upgrade": [*CURL, "--http2", "-d", GOOD],
    "wget": ["wget", "-q", "-O", "-", "--header", "Content-Type: application/json", "--post-data", GOOD],
    "perl HTTP::Tiny": ["perl", "-e", PERL],
    "perl LWP": ["perl", "-MLWP::UserAgent", "-e", LWP],
    "php streams": ["php", "-r", PHP, "--"],
    "curl TLS 1.2": [*CURL, "--tlsv1.2", "--tls-max", "1.2", "-d", GOOD],
    "curl TLS 1.3": [*CURL, "--tlsv1.3", "-d", GOOD],
    "java": ["java", "{folder}/Ask.java"],
}


@pytest.fixture
def certificate(tmp_path):
    """Of localhost, and of its address."""
    return make_certificate(tmp_path)


@pytest.fixture
def url(handler, name, certificate):
    """A door over the till; encrypted for whoever wants it so."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    state, ready, tls = {}, threading.Event(), None
    if "TLS" in name:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_2
        tls.load_cert_chain(certificate, certificate.with_name("key.pem"))

    async def serve():
        door, state["end"], state["loop"] = Door(handler, tls=tls), asyncio.Event(), asyncio.get_running_loop()
        await door.start(listener)
        ready.set()
        await state["end"].wait()
        await door.drain(1)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/v1/till/predict"
    state["loop"].call_soon_threadsafe(state["end"].set)
    thread.join(10)


@pytest.mark.full
@pytest.mark.parametrize("name", CLIENTS)
def test_foreign_programs_get_their_answer(url, tmp_path, name, certificate):
    """Unchanged, in the ways in which they are used; one that is not installed is skipped."""
    program = CLIENTS[name][0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if (
        name == "perl LWP"
        and subprocess.run([*CLIENTS[name][:2], "-e", "1"], capture_output=True, check=False).returncode
    ):
        pytest.skip("LWP is not installed")
    (tmp_path / "Ask.java").write_text(JAVA, encoding="utf-8")
    command = [part.replace("{folder}", str(tmp_path)) for part in CLIENTS[name]]
    if url.startswith("https:"):
        command += ["--cacert", str(certificate)]
    command += [url, GOOD] if program in {"perl", "php", "java"} else [url]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prediction"]["items"] == ["MILK"]


@pytest.mark.parametrize("name", [".NET"])
def test_the_habits_of_dotnet_are_understood(url):
    """HttpWebRequest waits for 100 before it sends; its first request says Keep-Alive, later ones nothing."""
    host, port = url.split("/")[2].split(":")
    body = GOOD.encode()
    start = b"POST /v1/till/predict HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nHost: till:80\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as client, client.makefile("rb") as reader:

        def answer():
            line, length = reader.readline(), 0
            while (field := reader.readline().strip()) != b"":
                if field.lower().startswith(b"content-length:"):
                    length = int(field.split(b":")[1])
            return line.split()[1], reader.read(length)

        client.sendall(
            start + b"Content-Length: %d\r\nExpect: 100-continue\r\nConnection: Keep-Alive\r\n\r\n" % len(body)
        )
        assert answer() == (b"100", b"")
        client.sendall(body)
        assert answer()[0] == b"200"
        client.sendall(start + b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert answer() == (b"100", b"")
        client.sendall(b"%X\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        status, text = answer()
        assert (status, json.loads(text)["prediction"]["items"]) == (b"200", ["MILK"])
        client.sendall(start + b"Content-Length: 3\r\nExpect: 100-continue\r\nContent-Encoding: gzip\r\n\r\n")
        assert answer()[0] == b"415"  # refused by its head alone: the body is never asked for
