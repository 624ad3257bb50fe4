"""Sentences written for this course, each with a paraphrase and with a rival.

The paraphrase means what the sentence means, mostly in other words. The rival has most of the
sentence's words and means something else. Ten of each kind were written before any model read them;
they are part of the course and stand under its licence.
"""

from typing import NamedTuple


class Triplet(NamedTuple):
    """A sentence, a paraphrase of it, and a rival with like words and another meaning."""

    sentence: str
    paraphrase: str
    rival: str


TEXT = {
    "who did it": """
The dog chased the cat out of the garden.
A cat was driven from the yard by a dog.
The cat chased the dog out of the garden.

The nurse called the doctor at midnight.
At twelve at night the doctor got a call from the nurse.
The doctor called the nurse at midnight.

The girl taught her mother to swim.
The mother learned swimming from her daughter.
The mother taught her girl to swim.

Spain beat France in the final.
France lost the final to Spain.
France beat Spain in the final.

The teacher borrowed a pen from the student.
A student lent the teacher a pen.
The student borrowed a pen from the teacher.

The bus hit the truck at the crossing.
The truck was struck by the bus where the roads meet.
The truck hit the bus at the crossing.

Anna sold her bicycle to Peter.
Peter bought the bicycle of Anna.
Peter sold his bicycle to Anna.

The company sued its former director.
The former director was taken to court by the company.
The former director sued the company.

The son is taller than the father.
The father is shorter than the son.
The father is taller than the son.

The hunter was killed by the bear.
A bear killed the hunter.
The bear was killed by the hunter.
""",
    "yes or no": """
The shop is open on Sunday.
On Sunday one can buy there.
The shop is not open on Sunday.

Nobody in the village has seen the wolf.
The wolf was seen by no villager.
Everybody in the village has seen the wolf.

She forgot to lock the door.
She left the door unlocked.
She did not forget to lock the door.

The medicine made him worse.
His health declined after he took the drug.
The medicine made him better.

The train arrived on time.
The train was punctual.
The train did not arrive on time.

The film was anything but boring.
The film was exciting.
The film was boring.

He failed to win the race.
He lost the race.
He did not fail to win the race.

The lake is too cold for swimming.
Nobody can swim in that freezing water.
The lake is not too cold for swimming.

They could hardly hear the music.
The music was almost inaudible to them.
They could clearly hear the music.

The judge rejected the appeal.
The appeal was turned down by the judge.
The judge accepted the appeal.
""",
    "which sense": """
He sat on the bank and watched the fish.
He was at the side of the river, looking at what swam there.
He sat in the bank and watched the clerk.

The bat flew out of the cave.
A small animal with wings left its cavern.
The bat flew out of the hands of the player.

She plays the bass in an orchestra.
She is a musician with a large string instrument.
She caught the bass in a lake.

The crane lifted the steel beams.
A machine raised heavy metal.
The crane lifted its wings.

They had to change the date of the wedding.
The marriage was moved to another day.
They had to find a date for the wedding.

The spring broke and the clock stopped.
The watch no longer ran because a metal coil snapped.
The spring came and the clock changed.

The current pulled the swimmer out to sea.
A person in the water was carried away by the flow.
The current champion is a swimmer out at sea.

He drew a long line with the ruler.
Along a straight edge he made a stroke on paper.
The ruler drew a long line of admirers.

The mouse does not work, so she cannot click.
Her computer lacks a pointing device.
The mouse does not move, so the cat cannot see it.

The match went out in the wind.
A breeze blew out the small flame.
The match went on in the wind.
""",
    "which belongs to which": """
A red book lay on a white table.
On a white table there was a red book.
A white book lay on a red table.

The old man helped the young woman.
The young woman received help from the old man.
The young man helped the old woman.

We ate before we swam.
First we had our meal, then we went into the water.
We swam before we ate.

Only the boss knows the number.
Nobody except the boss has the number.
The boss knows only the number.

The cheap hotel is near the expensive restaurant.
Next to the costly restaurant stands a hotel with low prices.
The expensive hotel is near the cheap restaurant.

She stopped to smoke.
She paused for a cigarette.
She stopped smoking.

Two boys ate three apples.
Three apples were eaten by two boys.
Three boys ate two apples.

He left because she was tired.
Her tiredness was why he went away.
She left because he was tired.

The flight from Rome to Oslo is late.
The plane that goes to Oslo out of Rome has a delay.
The flight from Oslo to Rome is late.

The paint on the car is blue, its roof is black.
The car has blue paint and a black roof.
The paint on the car is black, its roof is blue.
""",
}


def paraphrases() -> dict[str, list[Triplet]]:
    """Return ten triplets of each of four kinds of difference in meaning."""
    return {
        kind: [Triplet(*block.split("\n")) for block in text.strip().split("\n\n")]
        for kind, text in TEXT.items()
    }
