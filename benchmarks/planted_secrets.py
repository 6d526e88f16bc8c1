"""What benchmarks.secrets plants: kinds of secrets, ways to write them down, and files that only look like secrets."""

# Name | format, as the issuer documents it | a call that takes one | the name of a setting of it. In a format, {20a} is
# 20 random characters: a letters and digits, l and U with lower and upper case alone, w with - and _ (base64 of
# addresses), b base64, h hexadecimal, d digits, c the alphabet of Bech32, p and x with signs, s lower case.
KINDS = r"""
AWS access key id | AKIA{16u} | boto3.client("s3", "{}") | key_id
AWS secret key | {40b} | Session(aws_secret_access_key="{}") | aws_secret_access_key
AWS session token | IQoJb3JpZ2luX2Vj{340b}== | Session(token="{}") | aws_session_token
GitHub token | ghp_{36a} | Github("{}") | github
GitHub fine-grained token | github_pat_{22a}_{59a} | Github("{}") | pat
GitHub OAuth token | gho_{36a} | login("{}") | oauth
GitHub app token | ghs_{36a} | login("{}") | app
GitLab token | glpat-{20w} | Gitlab(private_token="{}") | gitlab
GitLab routable token | glpat-{27w}.01.{9l} | Gitlab("{}") | gitlab
GitLab runner token | glrt-{20w} | register("{}") | runner
GitLab deploy token | gldt-{20w} | register("{}") | deploy
GitLab job token | glcbt-64_{20w} | Gitlab("{}") | job
Bitbucket password | ATBB{32a} | Bitbucket("{}") | bitbucket
Atlassian token | ATATT3xFfGF0{171w}={8U} | Jira("bob", "{}") | jira
Azure DevOps token | {76a}AZDO{4a} | Connection("{}") | azure_devops
Hugging Face token | hf_{34a} | HfApi("{}") | hub
OpenAI key | sk-{20a}T3BlbkFJ{20a} | OpenAI(api_key="{}") | openai
OpenAI project key | sk-proj-{74w}T3BlbkFJ{74w} | OpenAI("{}") | openai
OpenAI service key | sk-svcacct-{60w}T3BlbkFJ{60w} | OpenAI("{}") | openai
OpenRouter key | sk-or-v1-{64h} | OpenAI("{}") | openrouter
Anthropic key | sk-ant-api03-{93w}AA | Anthropic(api_key="{}") | anthropic
Replicate token | r8_{37a} | replicate.Client("{}") | replicate
Groq key | gsk_{52a} | Groq("{}") | groq
Pinecone key | pcsk_{6a}_{63a} | Pinecone("{}") | pinecone
Pinecone UUID | {8h}-{4h}-{4h}-{4h}-{12h} | Pinecone(api_key="{}") | pinecone_api_key
Mistral key | {32a} | Mistral("{}") | mistral_api_key
Cohere key | {40a} | cohere.Client("{}") | cohere_api_key
Perplexity key | pplx-{48a} | client("{}") | perplexity
xAI key | xai-{80a} | client("{}") | xai
LangSmith key | lsv2_pt_{32h}_{10h} | Client("{}") | langsmith
Google API key | AIza{35w} | Client("{}") | google
Google client secret | GOCSPX-{28w} | flow("{}") | google_oauth
Google service account | {key PRIVATE} | from_info(private_key="{}") | private_key
Azure storage key | AccountName=lab;AccountKey={86b}==;Suffix=x | from_connection_string("{}") | storage
Azure Cosmos key | AccountEndpoint=https://x.example.org:443/;AccountKey={86b}==; | CosmosClient("{}") | cosmos
Azure SAS | https://lab.blob.core.windows.net/d?sv=2022-11-02&sr=c&sig={43a}%3D | ContainerClient("{}") | container
Azure client secret | {3a}8Q~{34w} | ClientSecretCredential(tenant, client, "{}") | azure_app
Azure key | {32a} | AzureKeyCredential("{}") | azure_key
Alibaba access key | LTAI{20a} | oss2.Auth("{}", secret) | oss_key_id
Yandex key | AQVN{36w} | yandex("{}") | yandex
IBM key | {44w} | IAMAuthenticator("{}") | ibm_api_key
MinIO key | {40a} | Minio("host", access_key="lab", secret_key="{}") | minio_secret_key
Slack bot token | xoxb-{12d}-{12d}-{24a} | WebClient("{}") | slack
Slack user token | xoxp-{12d}-{12d}-{12d}-{32h} | WebClient("{}") | slack
Slack app token | xapp-1-A{10U}-{13d}-{64h} | SocketMode("{}") | slack
Slack webhook | https://hooks.slack.com/services/T{10U}/B{10U}/{24a} | post("{}") | notify
Discord bot token | MT{24a}.G{5a}.{38w} | client.run("{}") | discord
Discord webhook | https://discord.com/api/webhooks/{18d}/{68w} | post("{}") | notify
Zapier webhook | https://hooks.zapier.com/hooks/catch/{7d}/{7l}/ | post("{}") | notify
Teams webhook | https://lab.webhook.office.com/webhookb2/{36h}/IncomingWebhook/{32h} | post("{}") | notify
Telegram bot token | {10d}:AA{33w} | Bot("{}") | bot
Stripe key | sk_live_{24a} | stripe.Client("{}") | stripe
Square token | EAAA{60w} | Square(token="{}") | square_access_token
Shopify token | shpat_{32h} | Session(shop, "{}") | shopify
Facebook token | EAA{180a} | GraphAPI("{}") | facebook
Twilio API key | SK{32h} | twilio.Client("{}") | twilio
Twilio auth token | {32h} | twilio.Client(sid, "{}") | twilio_auth_token
SendGrid key | SG.{22w}.{43w} | SendGridAPIClient("{}") | mail
Mailgun key | key-{32h} | mailgun("{}") | mailgun
npm token | npm_{36a} | publish("{}") | //registry.npmjs.org/:_authToken
PyPI token | pypi-AgEIcHlwaS5vcmc{160w} | upload("__token__", "{}") | upload
RubyGems key | rubygems_{48h} | push("{}") | gems
crates.io token | cio{32a} | publish("{}") | crates
NuGet key | oy2{43l} | push("{}") | nuget_key
Artifactory key | AKCp{69a} | Repository("{}") | artifactory
Docker Hub token | dckr_pat_{27w} | docker.login("bob", "{}") | docker
DigitalOcean token | dop_v1_{64h} | Manager("{}") | do
Heroku key | {8h}-{4h}-{4h}-{4h}-{12h} | heroku3.from_key("{}") | heroku_api_key
Databricks token | dapi{32h} | WorkspaceClient(host, "{}") | databricks
W&B key | {40h} | wandb.login(key="{}") | wandb_api_key
W&B v1 key | wandb_v1_{22a}_{58a} | login("{}") | tracking
Comet key | {25a} | comet_ml.Experiment(api_key="{}") | comet_api_key
Neptune token | {neptune} | neptune.init_run("{}") | neptune_api_token
ClearML key | {50a} | Task.set_credentials(secret="{}") | clearml_secret_key
Label Studio token | {40h} | Client(url, api_key="{}") | label_studio_key
Roboflow key | {20a} | Roboflow(api_key="{}") | roboflow_api_key
Modal token | as-{22a} | modal.Client("{}") | modal_token_secret
Kaggle key | {32h} | KaggleApi(key="{}") | kaggle_key
Zenodo token | {60a} | Zenodo("{}") | zenodo_token
MLflow address | https://bob:{14a}@mlflow.example.org | mlflow.set_tracking_uri("{}") | tracking_uri
PostgreSQL address | postgresql://bob:{12a}@db.example.org:5432/runs | create_engine("{}") | database
MongoDB address | mongodb+srv://bob:{13a}@cluster0.example.org/runs | MongoClient("{}") | mongo
Redis address | redis://:{18a}@cache:6379/0 | Redis.from_url("{}") | redis_url
JDBC address | jdbc:postgresql://db/runs?user=bob&password={12a} | connect("{}") | jdbc
ODBC connection | Driver=x;Server=db;Uid=bob;Pwd={12a}; | pyodbc.connect("{}") | odbc
password of a connection | {14p} | psycopg2.connect(host="db", user="bob", password="{}") | db_password
Snowflake password | {16p} | snowflake.connector.connect(user="bob", password="{}") | snowflake_password
passphrase | correct-horse-{6s} | unlock(passphrase="{}") | passphrase
JSON web token | {jwt} | verify("{}") | session
Bearer header | Bearer {40a} | get(url, headers={{"Authorization": "{}"}}) | authorization
Basic header | Basic {basic} | get(url, headers={{"Authorization": "{}"}}) | authorization
htpasswd line | bob:$2y$10${53a} | check("{}") | htpasswd
crypt hash | $6${8a}${86a} | user("{}") | shadow
Django key | django-insecure-{50x} | setup("{}") | SECRET_KEY
Fernet key | {43w}= | Fernet("{}") | fernet_key
WireGuard key | {43b}= | wireguard("{}") | PrivateKey
RSA key | {key RSA PRIVATE} | load("{}") | key
EC key | {key EC PRIVATE} | load("{}") | key
DSA key | {key DSA PRIVATE} | load("{}") | key
encrypted key | {key ENCRYPTED PRIVATE} | load("{}") | key
OpenSSH key | {key OPENSSH PRIVATE} | load("{}") | key
PGP key | {key PGP PRIVATE} | gpg.import_keys("{}") | key
age key | AGE-SECRET-KEY-1{58c} | decrypt("{}") | identity
Terraform Cloud token | {14a}.atlasv1.{67a} | TFC("{}") | credentials
Vault token | hvs.{90w} | hvac.Client(url, "{}") | vault
Vault batch token | hvb.{100w} | hvac.Client(url, "{}") | vault
Pulumi token | pul-{40h} | login("{}") | pulumi
Doppler token | dp.pt.{43a} | DopplerSDK("{}") | doppler
Tailscale key | tskey-auth-{17a}-{32a} | up("{}") | tailscale
Supabase token | sbp_{40h} | create("{}") | supabase
PlanetScale token | pscale_tkn_{43w} | connect("{}") | planetscale
Grafana token | glsa_{32a}_{8h} | GrafanaApi("{}") | grafana
New Relic key | NRAK-{27U} | newrelic("{}") | newrelic
Datadog key | {32h} | datadog.initialize(api_key="{}") | dd_api_key
Cloudflare token | {40w} | Cloudflare(api_token="{}") | cloudflare_api_token
Fastly token | {32w} | fastly.Configuration(api_token="{}") | fastly_api_token
Sentry token | sntryu_{64h} | sentry("{}") | sentry
Sentry DSN | https://{32h}:{32h}@o1.ingest.sentry.io/2 | sentry_sdk.init("{}") | dsn
Postman key | PMAK-{24h}-{34h} | run("{}") | postman
Figma token | figd_{40w} | figma("{}") | figma
Dropbox token | sl.{136w} | Dropbox("{}") | dropbox
Linear key | lin_api_{40a} | linear("{}") | linear
Notion token | ntn_{46a} | notion_client.Client("{}") | notion
Airtable token | pat{14a}.{64h} | pyairtable.Api("{}") | airtable
Stripe restricted key | rk_live_{24a} | stripe.Client("{}") | stripe
Stripe webhook | whsec_{32a} | verify(payload, "{}") | endpoint
GitHub user token | ghu_{36a} | login("{}") | gh
GitHub refresh | ghr_{76a} | login("{}") | gh
Mapbox key | sk.eyJ{60a}.{22w} | Map("{}") | mapbox
Algolia key | {32h} | SearchClient.create("APP", "{}") | algolia_admin_key
Confluent key | {64b} | Producer(secret="{}") | sasl_password
Snyk key | {8h}-{4h}-{4h}-{4h}-{12h} | Snyk(token="{}") | snyk_token
SonarQube key | squ_{40h} | Sonar("{}") | sonar
CircleCI key | CCIPAT_{22a}_{40h} | Ci("{}") | circle
Buildkite key | bkua_{40h} | Bk("{}") | bk
Netlify key | nfp_{36a} | Netlify("{}") | netlify
Vercel key | {24a} | Vercel(token="{}") | vercel_token
Render key | rnd_{28a} | Render("{}") | render
HubSpot key | pat-na1-{8h}-{4h}-{4h}-{4h}-{12h} | HubSpot("{}") | hubspot
Mailchimp key | {32h}-us12 | Mailchimp("{}") | mailchimp
Brevo key | xkeysib-{64h}-{16a} | Brevo("{}") | brevo
Okta key | 00{40w} | Okta({{"token": "{}"}}) | okta_token
Spotify key | {32h} | SpotifyOAuth(client_id, "{}") | spotify_client_secret
Twitter bearer | AAAAAAAAAAAAAAAAAAAAA{80a}%3D | tweepy.Client("{}") | bearer_token
Etherscan key | {34U} | Etherscan("{}") | etherscan_api_key
Infura key | {32h} | connect("https://mainnet.infura.io/v3/{}") | web3
Together key | {64h} | Together("{}") | together
Fireworks key | fw_{24a} | Fireworks("{}") | fireworks
DeepSeek key | sk-{32h} | OpenAI("{}") | deepseek
ElevenLabs key | sk_{48h} | ElevenLabs("{}") | eleven
Deepgram key | {40h} | Deepgram("{}") | deepgram
Stability key | sk-{48a} | Stability("{}") | stability
Voyage key | pa-{43w} | voyageai.Client("{}") | voyage
Jina key | jina_{32h}{30w} | Jina("{}") | jina
Tavily key | tvly-{32a} | Tavily("{}") | tavily
Langfuse key | sk-lf-{8h}-{4h}-{4h}-{4h}-{12h} | Langfuse("{}") | langfuse
Hetzner key | {64a} | Client("{}") | hetzner
Linode key | {64h} | LinodeClient("{}") | linode_token
Backblaze key | K005{27b} | authorize("id", "{}") | b2_application_key
Cloudinary key | cloudinary://123456789012345:{27w}@lab | configure("{}") | cloudinary
AMQP address | amqp://bob:{16a}@mq:5672/ | connect("{}") | broker
SMTP address | smtp://bob%40example.org:{16a}@mail:587 | send("{}") | smtp
TOTP address | otpauth://totp/lab:bob?secret={32u} | parse("{}") | otp
Kubernetes client key | {200b} | kube("{}") | client-key-data
Jupyter address | http://127.0.0.1:8888/lab?token={48h} | open("{}") | jupyter
ngrok token | {27a}_{21a} | ngrok.set_auth_token("{}") | authtoken
Azure OpenAI key | {32h} | AzureOpenAI(api_key="{}") | azure_openai_api_key
Azure AI new key | {84a} | AzureOpenAI(api_key="{}") | azure_openai_key
Bedrock key | ABSK{128b} | bedrock("{}") | bedrock
Clerk key | sk_test_{40a} | Clerk("{}") | clerk
GCP refresh | 1//0{100w} | Credentials(None, refresh_token="{}") | refresh_token
GCP access key | ya29.{150w} | Credentials("{}") | gcp
Weaviate key | {36a} | weaviate.auth.AuthApiKey("{}") | weaviate
Prefect key | pnu_{36a} | Prefect("{}") | prefect
Dagster key | user:{32h} | Dagster("{}") | dagster_token
DagsHub key | {40h} | dagshub.auth.add_app_token("{}") | dagshub
lakeFS key | AKIAJ{15u} | lakefs(username="{}") | lakefs
Anyscale key | aph0_{60a} | anyscale("{}") | anyscale
Lightning key | {36a} | lightning(api_key="{}") | lightning
weak password | {7s}{1d} | connect(passwd="{}") | passwd
word as password | {10s} | connect(password="{}") | password
"""

# File | content: the same password, token (40 letters and digits) or hexadecimal key in other languages and tools.
SYNTAXES = r"""
dict.py | config = dict(user="bob", password="@PW@")
single.py | db = connect(password='@PW@')
triple.py | key = '''@TOKEN@'''
bytes.py | key = b"@TOKEN@"
annotated.py | password: str = "@PW@"
environment.py | os.environ["DB_PASSWORD"] = "@PW@"
default.py | x = os.environ.get("DB_PASSWORD", "@PW@")
parameter.py | def login(user="bob", password="@PW@"): ...
auth.py | r = requests.get(url, auth=("bob", "@PW@"))
basic.py | r = get(url, auth=HTTPBasicAuth("bob", "@PW@"))
header.py | headers = {"X-Api-Key": "@TOKEN@"}
ternary.py | token = "@TOKEN@" if production else None
lines.py | client = Client(\n    "https://x",\n    "@TOKEN@",\n)
password_lines.py | client = connect(\n    user="bob",\n    password=(\n        "@PW@"\n    ),\n)
list.py | TOKENS = ["@TOKEN@"]
comment.py | x = 1  # password: @PW@
docstring.py | '''Log in with password @PW@.'''
compare.py | if password == "@PW@": ...
f_string.py | url = f"https://bob:@PW@@{host}/x"
object.js | const config = { user: 'bob', pass: '@PW@' };
constant.ts | const apiKey: string = `@TOKEN@`;
Setter.java | source.setPassword("@PW@");
main.go | apiKey := "@TOKEN@"
main.rs | let token = String::from("@TOKEN@");
Main.cs | var c = new NetworkCredential("bob", "@PW@");
setup.ps1 | $p = ConvertTo-SecureString "@PW@" -AsPlainText -Force
user.sql | CREATE USER bob WITH PASSWORD '@PW@';
identified.sql | CREATE USER bob IDENTIFIED BY '@PW@';
element.xml | <server><username>bob</username><password>@PW@</password></server>
attribute.xml | <property name="password" value="@PW@"/>
db.properties | db.password=@PW@
table.toml | [db]\npassword = "@PW@"
single.yaml | db:\n  password: '@PW@'
pairs.yaml | env:\n- name: DB_PASSWORD\n  value: @PW@
kubernetes.yaml | kind: Secret\ndata:\n  password: @PW64@
compose.yaml | environment:\n  - POSTGRES_PASSWORD=@PW@
Dockerfile | FROM x\nENV DB_PASSWORD=@PW@
old.Dockerfile | FROM x\nENV DB_PASSWORD @PW@
argument.Dockerfile | FROM x\nARG API_TOKEN=@TOKEN@
export.sh | export DB_PASSWORD='@PW@'
inline.sh | PGPASSWORD=@PW@ psql -h db
option.sh | tool --user bob --password @PW@
option_sign.sh | tool --password=@PW@ --user bob
login.sh | huggingface-cli login --token @TOKEN@
curl.sh | curl -u bob:@PW@ https://x
curl_bearer.sh | curl -H "Authorization: Bearer @TOKEN@" https://x
curl_header.sh | curl -H 'PRIVATE-TOKEN: @TOKEN@' https://x
sshpass.sh | sshpass -p @PW@ ssh bob@x
docker.sh | docker login -u bob -p @PW@ registry
mysql.sh | mysql -u root -p@PW@ runs
wandb.sh | wandb login @HEX@
netrc.sh | cat > ~/.netrc <<X\nmachine api.wandb.ai\n  login user\n  password @HEX@\nX
machine.txt | machine x login bob password @PW@
tokens.mk | TOKEN := @TOKEN@
variable.tf | variable "password" {\n  default = "@PW@"\n}
lab.tfvars | db_password = "@PW@"
nested.json | {"a": {"b": [{"clientSecret": "@TOKEN@"}]}}
escaped.json | {"config": "{\\"password\\": \\"@PW@\\"}"}
column.csv | name,password\nbob,@PW@
code.md | The password is `@PW@`.
bold.md | Password: **@PW@**
table.md | | user | bob |\n| password | @PW@ |
hidden.html | <input type="hidden" name="api_key" value="@TOKEN@">
field.rst | :token: @TOKEN@
run.txt | 2026-01-01 INFO using token @TOKEN@
setup.R | Sys.setenv(API_TOKEN = "@TOKEN@")
setup.rb | config.password = '@PW@'
setup.php | $config['password'] = '@PW@';
setup.pl | my $password = '@PW@';
setup.lua | local token = "@TOKEN@"
redis.conf | requirepass @PW@
pip.conf | index-url = https://bob:@PW@@pypi.example.org/simple
npmrc.txt | //r.example.org/:_auth=@TOKEN@
requirements.txt | git+https://@TOKEN@@github.com/a/b
slurm.sh | #SBATCH --export=WANDB_API_KEY=@HEX@
return.txt | x=1\rpassword=@PW@\r
"""

# Parts of a notebook beside those of the forms.
NOTEBOOKS = r"""
magic | source | %env WANDB_API_KEY=@HEX@
shell | source | !wandb login @HEX@
html | outputs | [{"data": {"text/html": ["<td>token</td><td>@TOKEN@</td>"]}}]
widget | outputs | [{"data": {"application/vnd.jupyter.widget-view+json": {"state": {"value": "@TOKEN@"}}}}]
error | outputs | [{"output_type": "error", "evalue": "bad token @TOKEN@", "traceback": []}]
tags | metadata | {"api_key": "@TOKEN@"}
attachment | attachments | {"a.txt": {"text/plain": "@TOKEN@"}}
"""

# Encoding | what stands there beside the secret.
ENCODINGS = """
utf-8-sig | plain
utf-16-be | plain
utf-32 | plain
utf-16-le | 这个文件只有中文注释没有别的内容哦真的没有
cp1252 | “quoted” – dash
shift-jis | パスワード
gbk | 密码
koi8-r | ключ
"""

# File | content that is no secret; @SHA256@, @MD5@, @COMMIT@ and @UUID@ are random, @BASE64@ is 800 characters long.
HARMLESS = r"""
Dockerfile | FROM python:3.11@sha256:@SHA256@
dvc.lock | stages:\n  train:\n    outs:\n    - path: model.pt\n      md5: @MD5@
data.dvc | outs:\n- md5: @MD5@.dir\n  size: 100\n  path: data
workflow.yml | steps:\n  - uses: actions/checkout@@COMMIT@ # v5
requirements.lock | torch==2.11.0 \\\n    --hash=sha256:@SHA256@
package-lock.json | {"integrity": "sha512-@BASE64@==", "resolved": "x"}
uv.lock | sdist = { url = "x.tar.gz", hash = "sha256:@SHA256@", size = 1 }
uuid.py | NAMESPACE = UUID("@UUID@")
environ.py | password = os.environ["PASSWORD"]\ntoken = os.getenv("HF_TOKEN")
getpass.py | password = getpass()\nsecret = getpass.getpass("Password for the server: ")
secrets.yml | env:\n  TOKEN: ${{ secrets.DEPLOY_TOKEN }}\n  PASSWORD: ${{ secrets.DB_PASSWORD }}
placeholder.md | export HF_TOKEN=<your token>\ndvc remote modify --local r password <password>
default.yaml | database:\n  user: postgres\n  password: changeme
.env.example | AWS_SECRET_ACCESS_KEY=\nWANDB_API_KEY=your-key-here\nPASSWORD=xxxxxxxx
picture.ipynb | {"cells": [{"outputs": [{"data": {"image/png": "@BASE64@="}}]}]}
inline.ipynb | {"cells": [{"source": "![x](data:image/png;base64,@BASE64@=)"}]}
minified.js | !function(e,t){return e.token=t.token||null,e.password=n(e.secretKey)}(a,b);
path.svg | <svg><path d="M12.021,4.733c0-1.2,0.98-2.17,2.18-2.17h9.6l4.25,12.9L2.1,3.02z"/></svg>
test_names.py | def test_password_of_a_remote_is_never_printed_in_the_error_message(tmp_path): ...
commits.md | Introduced in @COMMIT@; reverted later.
i18n.json | {"password": "Passwort", "password_hint": "Bitte geben Sie Ihr Passwort ein", "token": "令牌"}
ports.yaml | tracking: http://localhost:5000\nminio: http://127.0.0.1:9000/bucket\nssh: ssh://git@host:22/a/b.git
typed.py | def login(user: str, password: str, token: str | None = None) -> Session: ...
identifiers.py | from project import AbstractSingletonProxyFactoryBeanWithCredentialsProvider2 as Factory
metrics.json | {"accuracy": 0.9871234567, "commit": "@COMMIT@", "md5": "@MD5@"}
address.md | See https://docs.example.org/api/v1/tokens/create?token=<token>&user=me#password-reset
settings.py | SECRET_KEY = config["secret_key"]\nAPI_KEY = settings.api_key\ntoken = tokens[0]
compare.py | if password == "": raise ValueError("password: expected a text")
form.html | <input type="password" name="password" placeholder="Password" autocomplete="current-password">
terraform.tf | password = var.database_password\ntoken    = data.vault_secret.token.value
values.yaml | existingSecret: my-database-credentials\nsecretName: project-keys\nautomountServiceAccountToken: false
tokenizer.py | tokens = tokenizer("the quick brown fox", max_length=128)\npad_token = "[PAD]"\neos_token = "<|end|>"
public.pem | -----BEGIN PUBLIC KEY-----\n@BASE64@\n-----END PUBLIC KEY-----
known_hosts | server ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA@BASE64@
id.pub | ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQ@BASE64@ ann@laptop
cache.py | EXPECTED = {"train.npz": "sha256:@SHA256@", "test.npz": "@MD5@"}\nDIGEST = "@SHA256@"
shell.sh | PASSWORD="$(cat /run/secrets/password)"\nTOKEN=${TOKEN:?not set}\ncurl -H "Authorization: Bearer $TOKEN" x
alphabet.py | LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"\nHEX = "0123456789abcdef"
words.txt | password token secret api_key: these words are what the scanner looks for
predictions.csv | path,label,p\ndata/x7k2m9q4w1z8.png,3,0.9871234567
more/a.py | password = input("Password: ")
more/b.py | token = generate_token(32)
more/c.py | api_key = args.api_key or os.environ.get("API_KEY", "")
more/d.py | parser.add_argument("--password", help="password of the server")
more/e.py | parser.add_argument("--token", default=None, type=str)
more/f.py | SECRET = secrets.token_hex(16)
more/g.py | return {"token": self.token, "password": self.password}
more/h.yaml | password: ${DB_PASSWORD}
more/i.yaml | password: "{{ vault_db_password }}"
more/j.yaml | token: !secret api_token
more/k.env.template | TOKEN=<paste here>
more/l.md | Set `WANDB_API_KEY` to your key: `export WANDB_API_KEY=xxxxxxxxxxxxxxxxxxxx`.
more/m.md | https://user:password@example.org/ is how an address with a password looks.
more/n.py | headers = {"Authorization": f"Bearer {token}"}
more/o.py | model = timm.create_model("vit_base_patch16_224.augreg2_in21k_ft_in1k")
more/p.py | url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
more/q.py | name = "resnet50_a1_0-14fe96d1.pth"
more/r.yaml | image: nvcr.io/nvidia/pytorch:24.05-py3
more/s.yaml | run_id: @MD5@
more/t.json | {"model_id": "meta-llama/Llama-3.1-8B", "tokenizer_class": "LlamaTokenizerFast", "pad_token_id": 128}
more/u.json | {"cells": "x", "hash": "@SHA256@", "etag": "@MD5@"}
more/v.py | assert digest(path) == "@SHA256@"
more/w.py | EXPECTED_SHA256 = "@SHA256@"
more/x.sh | git checkout @COMMIT@
more/y.txt | torch @ git+https://github.com/pytorch/pytorch@@COMMIT@
more/z.md | [commit](https://github.com/a/b/commit/@COMMIT@)
more/aa.css | .token.password { color: #a1b2c3; background: url(data:image/png;base64,@BASE64@) }
more/ab.html | <script src="x.js" integrity="sha384-@BASE64@" crossorigin="anonymous"></script>
more/ac.py | tokens_per_second = 123456.789
more/ad.yaml | max_tokens: 4096\ntokenizer: bert-base-uncased\nspecial_tokens: [PAD, UNK]
more/ae.py | key = "train/accuracy_top5_epoch_100"
more/af.py | sorted(items, key=lambda item: item["key"])
more/ag.cfg | [credentials]\npassword =\ntoken =
more/ah.py | raise ValueError("token: expected letters and digits, got nothing")
more/ai.py | def test_secret_is_hidden(): assert "secret" not in output
more/aj.md | ssh-keygen -t ed25519 -f ~/.ssh/id_ed25519\nscp ~/.ssh/id_ed25519.pub server:
more/ak.yml | password: ${{ secrets.REGISTRY_PASSWORD }}\nusername: ${{ github.actor }}
more/al.md | docker login -u <user> -p <password> registry.example.org
more/am.py | PASSWORD_RESET_TIMEOUT = 3600\nTOKEN_EXPIRY_SECONDS = 86400
more/an.json | {"id": "@UUID@", "session": 3, "uuid": "@UUID@"}
more/ao.csv | path,md5\nimg_00001.png,@MD5@
more/ap.md | | name | sha256 |\n| a.zip | @SHA256@ |
more/aq.py | CHARS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
more/ar.tf | secret_name = "prod-database-password"
more/as.py | client = SecretManagerClient()\npassword = client.access(name="projects/1/secrets/db/versions/2")
more/at.yaml | passwordSecretRef:\n  name: database-password\n  key: password
more/au.md | The default password is `changeme`; change it.
more/av.py | password = getattr(settings, "DATABASE_PASSWORD", None)
more/aw.ini | ;password = <password>\n;token = TODO
more/ax.js | const token = localStorage.getItem('access_token');
more/ay.py | login_url = "/accounts/login/?next=/profile"
more/az.svg | <path id="a" d="M10.5c3.2-1.1,4a2b9h3v-7z" class="cls-1"/>
more/ba.py | COLORS = ["#1f77b4", "#ff7f0e", "#2ca02c"]
more/bb.txt | 3f786850e387550fdaaab6d5c0a4e9a1b2c3d4e5  data/train.zip
more/bc.yaml | ssh_key: ~/.ssh/id_rsa\ncredentials_file: /etc/gcp/credentials.json
more/bd.py | PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO@MD5@ ann@laptop"
more/be.md | Use `--password-stdin` rather than `--password`.
more/bf.py | auth = (user, password)
more/bg.po | msgid "Password must have 8 characters"\nmsgstr "Das Passwort muss 8 Zeichen haben"
more/bh.py | x = np.frombuffer(base64.b64decode("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"))
"""
