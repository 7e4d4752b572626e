/**
 * Writes triplets whose sentences differ by the order of their words or by a negation, made by rule from the word lists below: a
 * sentence, one that says the same in another way, and one of (nearly) the same words that says something else. A mean of word
 * vectors can't tell the third from the first; natural triplets seldom ask for it. A triplet with a sentence of
 * `examples/order-negation.tsv`, which tests what it teaches, is left out.
 *
 *     node recipes/contrasts.ts 20000 | gzip -9n > recipes/contrasts.csv.gz
 */
import { readFileSync } from "node:fs";
import { parsePairs } from "../src/evaluate/pairs.ts";
import { RandomStream } from "../src/train/random.ts";

type Triplet = readonly [sentence: string, same: string, other: string];

const random = new RandomStream(1, 0);
const list = (text: string): string[][] =>
  text
    .trim()
    .split(/\s*[;\n]\s*/)
    .map((entry) => entry.split(/\s*\|\s*/));
const pick = <T>(from: readonly T[]): T => from[random.below(from.length)]!;

/** Two different ones. */
function two<T>(from: readonly T[]): [T, T] {
  const first = random.below(from.length);
  const second = (first + 1 + random.below(from.length - 1)) % from.length;
  return [from[first]!, from[second]!];
}

// Each entry has a word and others that may stand for it.
const PEOPLE =
  list(`doctor | physician; nurse; teacher | instructor; lawyer | attorney; boy | young man; girl | young woman; man | guy
  woman | lady; child | kid; farmer; baker; painter | artist; singer | vocalist; actor | performer; police officer | cop; soldier
  driver; pilot; captain; king | monarch; queen; prince; guard | watchman; thief | robber; judge; mayor; senator; president
  scientist | researcher; student | pupil; professor; writer | author; journalist | reporter; photographer; coach | trainer
  player; referee | umpire; waiter | server; customer | client; cook | chef; gardener; plumber; builder; engineer; manager | boss
  worker | employee; secretary; neighbor; friend | buddy; uncle; aunt; brother; sister; mother | mom; father | dad
  grandmother | grandma; grandfather | grandpa; tourist | traveler; hunter; fisherman; sailor; priest; monk; dancer; drummer
  guitarist; clown | joker; carpenter; tailor; dentist; patient; inspector; banker; agent; guide; clerk; detective | investigator`);
const ANIMALS =
  list(`dog | hound; cat | kitten; horse | pony; cow; goat; sheep | lamb; pig | hog; rabbit | bunny; fox; wolf; bear
  lion; tiger; monkey; snake | serpent; bird; eagle; duck; goose; chicken | hen; mouse; rat; frog | toad; donkey | mule; bull; deer`);
const NAMES =
  list(`Anna; Ben; Carla; David; Emma; Frank; Grace; Henry; Irene; Jack; Karen; Liam; Mary; Nick; Olivia; Paul; Rosa; Sam
  Tina; Victor; John; Susan; Tom; Lucy; Mark; Julia; Peter; Alice; Robert; Linda`);
// Past tense, participle, and others that may stand for it.
const DEEDS =
  list(`chased | chased | ran after; followed | followed | went after; saw | seen | spotted; heard | heard
  helped | helped | assisted; pushed | pushed | shoved; pulled | pulled | dragged; kicked | kicked; hit | hit | struck; bit | bitten
  found | found | discovered; watched | watched | observed; carried | carried; attacked | attacked; scared | scared | frightened
  caught | caught; met | met; left | left | abandoned; saved | saved | rescued; touched | touched; passed | passed | overtook
  liked | liked; loved | loved | adored; hated | hated | despised; ignored | ignored; surprised | surprised; beat | beaten | defeated`);
const TALK =
  list(`called | called | phoned; thanked | thanked; asked | asked | questioned; told | told | informed; warned | warned
  praised | praised | complimented; blamed | blamed | accused; hired | hired | employed; fired | fired | dismissed
  paid | paid; taught | taught | instructed; visited | visited; invited | invited; hugged | hugged | embraced; kissed | kissed
  interviewed | interviewed; photographed | photographed; drew | drawn | sketched; sued | sued; trusted | trusted
  married | married; forgave | forgiven | pardoned; mentioned | mentioned; admired | admired; criticized | criticized`);
const THINGS =
  list(`book | novel; car | automobile; house | home; bicycle | bike; picture | photo; letter; guitar; ring; watch; coat | jacket
  bag | sack; box; cake; ticket; phone | telephone; computer | laptop; lamp; chair | seat; table; sofa | couch; boat | ship; camera; radio
  knife; hat | cap; shirt; map; key; ball; bottle; painting; clock; blanket; basket; umbrella; mirror; carpet | rug; newspaper; cup | mug`);
// A verb and the same deed told by the one who receives.
const GIFTS = list(
  `gave | got; sold | bought; lent | borrowed; sent | received; handed | got; showed | saw; left | inherited`,
);
const PLACES =
  list(`in the garden | out in the yard; at the party; on the street | on the road; in the park; near the river; at school
  in the kitchen; at the station; on the beach | by the sea; in the forest | in the woods; behind the house; at the market; in town`);
const TIMES = list(
  `yesterday | the day before today; last night; this morning; on Monday; last week; in the summer; today; at noon; last year`,
);
const CITIES =
  list(`London; Paris; Berlin; Rome; Madrid; Vienna; Boston; Chicago; Denver; Toronto; Tokyo; Delhi; Moscow; Cairo; Oslo; Athens
  Lisbon; Dublin; Prague; Sydney; Miami; Seattle; Dallas; Montreal; Geneva; Warsaw; Budapest; Munich; Hamburg; Milan`);
const WAYS = list(`train; bus; plane; road; ferry; route; truck; canal; path; highway`);
// A quality, more of it, more of its opposite, its opposite.
const QUALITIES =
  list(`tall | taller | shorter | short; old | older | younger | young; big | bigger | smaller | small
  heavy | heavier | lighter | light; fast | faster | slower | slow; strong | stronger | weaker | weak; rich | richer | poorer | poor
  cheap | cheaper | more expensive | expensive; long | longer | shorter | short; warm | warmer | colder | cold; hard | harder | softer | soft
  clean | cleaner | dirtier | dirty; happy | happier | sadder | sad; good | better | worse | bad; loud | louder | quieter | quiet
  bright | brighter | darker | dark; deep | deeper | shallower | shallow; wide | wider | narrower | narrow; early | earlier | later | late`);
// Where one is to the other, and the other to the one.
const SIDES =
  list(`above | below; over | under; in front of | behind; to the left of | to the right of; on top of | underneath
  inside | around; north of | south of; east of | west of; ahead of | behind; upstairs from | downstairs from`);
const COLORS = list(
  `red; blue; green; yellow; black; white; brown; gray; orange; purple; pink; golden`,
);
const FOODS =
  list(`tea; coffee; milk; juice; bread; rice; fish; meat; cheese; apples; pears; soup; salad; chocolate; cake; beer; wine; pasta
  football; tennis; chess; music; movies; books; trains; summer; winter; dogs; cats; the city; the country; the mountains; the sea`);
// Events: base form, past tense, and the past tense in other words.
const EVENTS =
  list(`eat dinner | ate dinner | had a meal; wash the dishes | washed the dishes | did the dishes; read the paper | read the paper
  call a friend | called a friend | phoned a friend; take a shower | took a shower | showered; go for a walk | went for a walk | took a walk
  clean the room | cleaned the room | tidied the room; feed the cat | fed the cat | gave the cat its food; watch a film | watched a film | saw a movie
  write a letter | wrote a letter; open the window | opened the window; close the door | closed the door | shut the door
  buy some food | bought some food | got groceries; play the piano | played the piano; paint the fence | painted the fence
  fix the car | fixed the car | repaired the car; pay the bill | paid the bill; lock the gate | locked the gate
  turn on the light | turned on the light | switched on the lamp; pack the bags | packed the bags; drink some water | drank some water
  take the medicine | took the medicine; sign the paper | signed the paper; make the bed | made the bed; cut the grass | cut the grass | mowed the lawn
  check the map | checked the map | looked at the map; leave the house | left the house | went out; catch the bus | caught the bus | got on the bus
  finish the work | finished the work | got the work done; visit the museum | visited the museum; tell the truth | told the truth`);
// Plain facts of one subject: singular verb phrase, and the same in other words.
const STATES =
  list(`open | not closed; closed | shut; ready | prepared; empty | without anything inside; full | filled up; broken | damaged
  safe | secure; dangerous | risky; sick | ill; awake | not sleeping; asleep | sleeping; alone | on one's own; busy | occupied; free | available
  angry | mad; happy | glad; sad | unhappy; tired | exhausted; hungry | in need of food; wet | soaked; dry | not wet; late | not on time
  famous | well known; wrong | mistaken; right | correct; lost | missing; dead | no longer alive; quiet | silent; cold | chilly; dirty | filthy`);
// Ways of saying that something is not so, each with its opposite; S is a subject, V a deed.
const DENIALS =
  list(`S V-ed | S did not V; S did V | S never V-ed; S managed to V | S failed to V; S remembered to V | S forgot to V
  S was able to V | S was unable to V; S wanted to V | S refused to V; S was allowed to V | S was forbidden to V; S can V | S cannot V
  S will V | S will not V; S has to V | S does not have to V; S agreed to V | S declined to V; S always wanted to V | S never wanted to V
  S had the time to V | S had no time to V; S had a reason to V | S had no reason to V; S decided to V | S decided not to V`);
const SAME_DENIALS =
  list(`S did V indeed | it is not true that S V-ed; S really V-ed | S did not V at all; S succeeded and V-ed | S tried to V without success
  S did not forget to V | S did not remember to V; S could V | S could not V; S was willing to V | S was not willing to V
  S had permission to V | S had no permission to V; S knows how to V | S does not know how to V; S is going to V | S is not going to V
  S must V | S need not V; S said yes when asked to V | S said no when asked to V; S liked to V | S did not like to V
  S found time to V | S was too busy to V; S had cause to V | there was no cause for S to V; S chose to V | S chose against it and did not V`);
const GROUPS =
  list(`students | pupils; guests | visitors; players; workers | employees; children | kids; doors; windows; lights | lamps
  shops | stores; houses | homes; cars; trains; answers; tickets; rooms; letters; trees; shoes; tourists | travelers; neighbors; cups | mugs`);
// How many, and the same in other words; then how many otherwise.
const AMOUNTS =
  list(`all of the | every one of the | none of the; most of the | the majority of the | few of the
  none of the | not one of the | all of the; many of the | a lot of the | hardly any of the; some of the | a few of the | none of the`);

const a = (noun: string): string => `${/^[aeiou]/.test(noun) ? "an" : "a"} ${noun}`;
const word = (entry: readonly string[]): string => (random.below(2) ? pick(entry) : entry[0]!);

/** Two of a kind as subjects: "the dog", "a dog", "Ben"; each the same and in other words. */
function pair(kinds: readonly (readonly string[][])[]): [string[], string[]] {
  const kind = pick(kinds);
  const article =
    kind === NAMES ? (n: string) => n : random.below(4) ? (n: string) => `the ${n}` : a;
  return two(kind).map((entry) => [entry[0]!, word(entry)].map(article)) as [string[], string[]];
}

/** Time or place, or nothing, at the end of a sentence; the same for a sentence, its like and its other. */
function setting(): [string, string] {
  const kind = pick([undefined, undefined, PLACES, TIMES]);
  if (!kind) return ["", ""];
  const entry = pick(kind);
  return [` ${entry[0]}`, random.below(3) ? ` ${word(entry)}` : ""];
}

const RULES: readonly (() => Triplet)[] = [
  function whoDidIt() {
    const [x, y] = pair([PEOPLE, PEOPLE, ANIMALS, NAMES]);
    const [past, participle, like = past] = pick(random.below(2) ? TALK : DEEDS);
    const [where, there] = setting();
    const same = [
      () => `${y[1]} was ${participle} by ${x[1]}${there}`,
      () => `${y[1]} got ${participle} by ${x[1]}${there}`,
      () => `it was ${x[1]} who ${past} ${y[1]}${there}`,
      () => `it was ${y[1]} that ${x[1]} ${like}${there}`,
      () => `${x[1]} ${like} ${y[1]}${there}`,
    ];
    const other = [
      () => `${y[0]} ${past} ${x[0]}${where}`,
      () => `${y[0]} ${past} ${x[0]}${where}`,
      () => `${x[0]} was ${participle} by ${y[0]}${where}`,
      () => `it was ${y[0]} who ${past} ${x[0]}${where}`,
    ];
    return [`${x[0]} ${past} ${y[0]}${where}`, pick(same)(), pick(other)()];
  },
  function whoGotIt() {
    const [x, y] = pair([PEOPLE, NAMES]);
    const [gave, got] = pick(GIFTS);
    const thing = pick(THINGS);
    const [where, there] = setting();
    const item = pick([a, (n: string) => `the ${n}`, (n: string) => `some old ${n}`]);
    const told = `${x[0]} ${gave} ${y[0]} ${item(thing[0]!)}${where}`;
    const like = `${y[1]} ${got} ${item(word(thing))} from ${x[1]}${there}`;
    const other = random.below(2)
      ? `${y[0]} ${gave} ${x[0]} ${item(thing[0]!)}${where}`
      : `${x[0]} ${got} ${item(thing[0]!)} from ${y[0]}${where}`;
    return random.below(3)
      ? [told, like, other]
      : [like, told, `${x[1]} ${got} ${item(word(thing))} from ${y[1]}${there}`];
  },
  function first() {
    const [x] = pair([PEOPLE, NAMES]);
    const subject = pick([x[0]!, "she", "he", "they", "we", "I"]);
    const [e, f] = two(EVENTS);
    const [past, later] = [e[1]!, f[1]!];
    const [like, likeLater] = [word(e.slice(1)), word(f.slice(1))];
    const same = [
      `${subject} ${likeLater} after ${subject} ${like}`,
      `after ${subject} ${like}, ${subject} ${likeLater}`,
      `first ${subject} ${like}, then ${subject} ${likeLater}`,
      `${subject} ${like} and then ${likeLater}`,
    ];
    const other = [
      `${subject} ${later} before ${subject} ${past}`,
      `${subject} ${past} after ${subject} ${later}`,
    ];
    return [`${subject} ${past} before ${subject} ${later}`, pick(same), pick(other)];
  },
  function because() {
    const [x, y] = pair([PEOPLE, NAMES]);
    const [e, f] = two(EVENTS);
    const [cause, effect] = [`${x[0]} ${e[1]}`, `${y[0]} ${f[1]}`];
    const [likeCause, likeEffect] = [`${x[1]} ${word(e.slice(1))}`, `${y[1]} ${word(f.slice(1))}`];
    const [join, back] = pick<[string, string]>([
      ["because", "so"],
      ["since", "and therefore"],
      ["although", "but"],
      ["when", "and then"],
    ]);
    const same = pick([
      `${likeCause}, ${back} ${likeEffect}`,
      `${join} ${likeCause}, ${likeEffect}`,
    ]);
    return [`${effect} ${join} ${cause}`, same, `${cause} ${join} ${effect}`];
  },
  function more() {
    const [x, y] = pair([PEOPLE, ANIMALS, NAMES, THINGS]);
    const [quality, comparative, less] = pick(QUALITIES);
    const [one, none] = pick<[string, string]>([
      ["is", "is not"],
      ["was", "was not"],
      ["looks", "does not look"],
    ]);
    const same = [
      `${y[1]} ${one} ${less} than ${x[1]}`,
      `${y[1]} ${none} as ${quality} as ${x[1]}`,
      `compared to ${y[1]}, ${x[1]} ${one} ${comparative}`,
    ];
    const other = [
      `${y[0]} ${one} ${comparative} than ${x[0]}`,
      `${x[0]} ${one} ${less} than ${y[0]}`,
    ];
    return [`${x[0]} ${one} ${comparative} than ${y[0]}`, pick(same), pick(other)];
  },
  function rather() {
    const [x] = pair([PEOPLE, NAMES]);
    const subject = pick([x[0]!, "she", "he"]);
    const [[liked], [other]] = two(FOODS) as [[string], [string]];
    const forms = (more: string, less: string): string[] => [
      `${subject} prefers ${more} to ${less}`,
      `${subject} likes ${more} more than ${less}`,
      `${subject} would choose ${more} rather than ${less}`,
      `${subject} would rather have ${more} than ${less}`,
      `${subject} wants ${more} instead of ${less}`,
      `${subject} is fond of ${more} but not of ${less}`,
    ];
    const [sentence, same] = two(forms(liked, other));
    return [
      sentence,
      same,
      pick([
        forms(other, liked)[forms(liked, other).indexOf(sentence)]!,
        pick(forms(other, liked)),
      ]),
    ];
  },
  function fromTo() {
    const [[x], [y]] = two(CITIES) as [[string], [string]];
    const [way] = pick(WAYS);
    const [who] = pair([PEOPLE, NAMES]);
    const forms = [
      [
        `the ${way} goes from X to Y`,
        `the ${way} to Y starts in X`,
        `going to Y, the ${way} leaves X`,
      ],
      [
        `${who[0]} moved from X to Y`,
        `${who[1]} left X and went to live in Y`,
        `${who[1]} moved to Y from X`,
      ],
      [
        `${who[0]} flew from X to Y`,
        `${who[1]} took a plane in X and landed in Y`,
        `${who[1]} arrived in Y on a flight from X`,
      ],
      [
        `${who[0]} lives in X and works in Y`,
        `${who[1]} has a job in Y and a home in X`,
        `${who[1]} works in Y but lives in X`,
      ],
    ];
    const [sentence, ...same] = pick(forms) as [string, ...string[]];
    const put = (form: string, from: string, to: string): string =>
      form.replace("X", from).replace("Y", to);
    return [
      put(sentence, x, y),
      put(pick(same), x, y),
      put(pick([sentence, sentence, ...same]), y, x),
    ];
  },
  function where() {
    const [x, y] = pair([THINGS, THINGS, PEOPLE, ANIMALS]);
    const [side, back] = pick(SIDES);
    const verb = pick(["is", "was", "stood", "stays"]);
    return [
      `${x[0]} ${verb} ${side} ${y[0]}`,
      pick([`${y[1]} ${verb} ${back} ${x[1]}`, `${side} ${y[1]} ${verb} ${x[1]}`]),
      pick([`${y[0]} ${verb} ${side} ${x[0]}`, `${x[0]} ${verb} ${back} ${y[0]}`]),
    ];
  },
  function whichIsWhich() {
    const kind = pick([PEOPLE, ANIMALS, THINGS]);
    const [x, y] = two(kind);
    const [[p], [q]] = two(kind === THINGS ? COLORS : QUALITIES.slice(0, 8)) as [
      [string],
      [string],
    ];
    const [past, participle] = pick(DEEDS);
    if (kind === THINGS) {
      const owner = pick(NAMES)[0];
      const sentence = (m: string, n: string): string =>
        `${owner} has ${a(m)} ${x[0]} and ${a(n)} ${y[0]}`;
      const same = pick([
        `${owner} has ${a(q)} ${word(y)} and ${a(p)} ${word(x)}`,
        `${owner}'s ${word(x)} is ${p} and the ${word(y)} is ${q}`,
      ]);
      return [sentence(p, q), same, sentence(q, p)];
    }
    const sentence = (m: string, n: string): string => `the ${m} ${x[0]} ${past} the ${n} ${y[0]}`;
    return [
      sentence(p, q),
      `the ${q} ${word(y)} was ${participle} by the ${p} ${word(x)}`,
      sentence(q, p),
    ];
  },
  function denied() {
    const [x] = pair([PEOPLE, NAMES]);
    const subject = pick([x[0]!, "she", "he"]);
    const [base, past] = pick(EVENTS);
    const put = (form: string): string =>
      form.replace("V-ed", past!).replace("V", base!).replace("S", subject);
    const i = random.below(DENIALS.length);
    const side = random.below(2);
    return [put(DENIALS[i]![side]!), put(SAME_DENIALS[i]![side]!), put(DENIALS[i]![1 - side]!)];
  },
  function notSo() {
    const [x] = pair([PEOPLE, ANIMALS, THINGS, NAMES]);
    const [state, like] = pick(STATES) as [string, string];
    const verb = pick(["is", "was"]);
    const yes = [
      `${x[1]} ${verb} ${like}`,
      `it is true that ${x[1]} ${verb} ${state}`,
      `${x[1]} ${verb} indeed ${state}`,
    ];
    const no = [
      `it is false that ${x[1]} ${verb} ${state}`,
      `${x[1]} ${verb} anything but ${state}`,
      `nobody says that ${x[1]} ${verb} ${state}`,
    ];
    const [sentence, other] = [`${x[0]} ${verb} ${state}`, `${x[0]} ${verb} not ${state}`];
    return random.below(2)
      ? [sentence, pick(yes), pick([other, `${x[0]} ${verb} never ${state}`])]
      : [other, pick(no), sentence];
  },
  function howMany() {
    const group = pick(GROUPS);
    const [amount, same, other] = pick(AMOUNTS);
    const state = pick(STATES);
    const verb = pick(["are", "were"]);
    return [
      `${amount} ${group[0]} ${verb} ${state[0]}`,
      `${same} ${word(group)} ${verb} ${word(state)}`,
      `${other} ${group[0]} ${verb} ${state[0]}`,
    ];
  },
  function but() {
    const [x, y] = pair([PEOPLE, NAMES]);
    const [state] = pick(STATES);
    const [e] = pick(EVENTS);
    const forms = [
      [`only ${x[0]} and not ${y[0]} can ${e}`, `${x[1]} can ${e} but ${y[1]} cannot`],
      [`${x[0]}, not ${y[0]}, was ${state}`, `it was not ${y[1]} but ${x[1]} that was ${state}`],
      [`everyone except ${x[0]} saw ${y[0]}`, `the only one who did not see ${y[1]} was ${x[1]}`],
    ];
    const i = random.below(forms.length);
    const others = [
      `only ${y[0]} and not ${x[0]} can ${e}`,
      `${y[0]}, not ${x[0]}, was ${state}`,
      `everyone except ${y[0]} saw ${x[0]}`,
    ];
    return [forms[i]![0]!, forms[i]![1]!, others[i]!];
  },
];

/** As people write: a capital at the start, mostly a full stop. */
const written = (sentence: string): string => `${sentence[0]!.toUpperCase()}${sentence.slice(1)}.`;

const count = Number(process.argv[2] ?? 20_000);
if (!(Number.isInteger(count) && count > 0))
  throw new Error(`expected a number of triplets, found ${process.argv[2]}`);
const quoted = (cell: string): string => (cell.includes(",") ? `"${cell}"` : cell);
const EXAMPLES = "examples/order-negation.tsv";
const text = readFileSync(new URL(`../${EXAMPLES}`, import.meta.url), "utf8");
const tests = new Set(parsePairs(text, EXAMPLES).pairs.flatMap(({ a: one, b }) => [one, b]));
console.log("sent0,sent1,hard_neg");
for (let left = count; left > 0;) {
  const triplet = pick(RULES)().map(written);
  if (triplet.some((sentence) => tests.has(sentence))) continue;
  console.log(triplet.map(quoted).join(","));
  left--;
}
