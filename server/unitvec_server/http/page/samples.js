// Texts that show the point before anybody has typed.

export const COMPARED = [
  "The kitten is napping",
  "A cat fell asleep on our couch",
  "How do I reset my password?",
  "Help, locked out of the account",
  "Shares drop as the bank raises rates",
  "We had a picnic on the bank of the river",
];

export const QUERY = "I was billed twice";

export const CORPUS = `Why does my invoice show two payments?
I would like my money back
Can I pay by bank transfer instead of card?
The discount code did not work at checkout
My subscription renewed although I had cancelled it
The price on the receipt is wrong
I forgot my password
The login page says my account is locked
The code for signing in never arrives by email
Someone else has signed in to my account
How do I delete my profile and login?
Change the email address of my account
Simmer the lentils with garlic until they are soft
Fold the egg whites gently into the batter
Let the bread dough rest overnight in the fridge
A pinch of salt makes chocolate taste sweeter
Grill the aubergines until their skin is charred
Stir the sauce until the butter has melted
The striker scored twice in the last minute
She won the marathon on her first attempt
The match was called off because of fog
Our goalkeeper saved the penalty
The team lost the final in extra time
The cyclists climbed the pass in record time
Light from this galaxy set out a billion years ago
The rover drilled into the red rock of Mars
Two black holes merged and shook spacetime
The comet can be seen with the naked eye in May
There is ice in the craters of the moon
The telescope found a planet around a dim star
The train to the coast is delayed by an hour
We missed our flight because of the traffic
The ferry does not run when the wind is strong
Our hotel was a short walk from the station
The bus was so full that we had to stand
They rented a car and drove along the lake`;

export const TOKENIZED = "Unbelievably, the antidisestablishmentarians in Llanfairpwllgwyngyll prefer café au lait ☕.";

export const LONG = Array.from({ length: 40 }, (_, i) => `Chapter ${i + 1}: it was a dark and stormy night, and nobody read this far.`).join(" ");
