"""The words that `read_prompt` understands, in tables that a dancer can extend.

To teach it a word or a phrase, write it into the row where it belongs. Endings (-s, -ing, -ed, -ly, -er, -est) are recognised, articles ("the",
"your") do not count, and of several phrases that fit the longest is meant. After the bar | come words of other languages, without accents.
"""

# What people say of each attribute.
#   very low ... very high   how it is danced; "not slow" is a little fast
#   done                     what is done or left out: "turns" and "more turns" are high, "no turns" very low, "few turns" low
#   dial                     its names, which can be high or low; alone they are high ("with energy")
#   scale                    the same, but alone they say nothing ("the tempo of the music")
VOCABULARY: dict[str, dict[str, str]] = {
    "energy": {
        "dial": """
            energy, nrg, energy level, kinetic energy, power, intensity, intensity level, force, effort, strength, passion, drive, punch,
            vigor, vigour, oomph, pep, zest, gusto, verve, attack, fire | energie, kraft, leidenschaft, schwung, energia, fuerza, pasion""",
        "very high": """
            insane, maniac, maniacal, berserk, like crazy, like mad, like possessed, full energy, full power, full throttle, full force,
            full blast, up to eleven, to eleven, up to 11, to 11, full on, full tilt, all guns blazing, off the charts, over the top, volcano, volcanic, on fire, bananas, nuclear""",
        "high": """
            energetic, energetically, energic, energetical, high octane, turn up heat, bring heat, beast mode, through roof, unleash, unleashed, let go, let yourself go, amped, turnt,
            firecracker, hiit, banger, forte, fortissimo, con fuoco, con brio, boisterous, raucous, rambunctious, exhilarating, kick it
            up, step it up, full of fire, boundless, tireless, unstoppable, high spirits, drum and bass, mosh pit, energise, energize,
            powerful, powerfully, strong, intense, vigorous, lively, dynamic, wild, crazy, fierce, fiery, passionate, aggressive,
            explosive, hyper, hyperactive, excite, enthusiastic, upbeat, animated, spirited, vibrant, peppy, zippy, perky, pumped, hyped,
            hype, party, rave, frantic, frenetic, frenzied, frenzy, rowdy, punchy, forceful, ecstatic, euphoric, exuberant, feisty, go
            nuts, go crazy, go wild, go all out, all out, go hard, flail, let loose, let it rip, cut loose, give everything, give it
            everything, give all, give it all, full of life, full of beans, alive, wide awake, electric, electrify, hold nothing back,
            turn it up, crank, crank up, crank it, crank it up, dial it up, pump it, pump it up, pump up, amp it up, fire up, coffee, espresso,
            caffeine, caffeinated, sugar rush, sugar, red bull, energy drink, adrenaline, sweat, sweaty, workout, aerobics, cardio, rock
            house, tear up floor, burn floor, with all might, hard hitting, puppy, fireworks, firework, storm, stormy, thunder, fury,
            furious, angry, rage, raging, rock star, restless, bursting, burst, turbocharged, supercharged, like nobody is watching, nobody's watching, no one's watching, wake up, take it up, life into it, some life, more life, explode, thunderstorm, like
            no one is watching, no tomorrow, waste energy, spend energy, break sweat | energisch, energiegeladen, kraftvoll, lebhaft, lebendig, feurig, leidenschaftlich,
            schwungvoll, energique, puissant, dynamique, vif, vive, fougueux, energico, energica, potente, fuerte, intenso, intensa,
            apasionado, apasionada, animado, animada""",
        "slightly high": """
            happy, happily, joyful, joyfully, cheerful, cheerfully, jolly, merry, jubilant, playful | frohlich, joyeux, joyeuse, feliz,
            alegre""",
        "slightly low": """
            low spirits, sad, sadly, melancholy, melancholic, mournful, gloomy, depressed, wistful, sombre, somber | traurig, triste""",
        "low": """
            easy does it, nice and easy, calm, calmly, pianissimo, whisper, low effort, without effort, unhurried and easy, no stress, stress free,
            sedate, hushed, faint, faintly, gently does it, cosy, cozy, wind it down, bring it down, take it down, lullaby like, bear in
            winter, hibernate, pyjamas, pajamas, slippers, afternoon nap, after big meal, full stomach, feather pillow, withering,
            wilting, melting, gentle, gently, soft, softly, mellow, chill, chillout, chilled out, relax, relaxed, laid back, easygoing,
            easy going, take it easy, tender, tenderly, delicate, delicately, peaceful, peacefully, quiet, quietly, serene, tranquil,
            soothe, soothing, sleepy, tired, lazy, lazily, drowsy, weary, exhausted, worn out, half asleep, asleep, sleep, doze, lullaby,
            bedtime, yawn, nap, siesta, hungover, lethargic, sluggish, subdued, muted, low key, lowkey, toned down, tone it down, tone
            down, turn it down, calm down, cool down, wind down, dial it down, dial it back, hold back, restful, meditative, meditation,
            zen, yoga, tai chi, spa, effortless, effortlessly, weak, feeble, limp, old man, old woman, old lady, monday morning, sunday
            morning, low battery, out of battery, drained, warm bath, bored, half hearted, floppy, droopy, listless, mild, placid, idle,
            save strength, save energy, conserve energy, conserve strength, no strength left, just woke up, just got up, out of bed, dreamy, dreamily, daydream, floaty, tame,
            bedroom slippers | ruhig, sanft, sanfte, sanfter, entspannt, gemutlich, gemuetlich, zart, mude, muede, leise, gelassen, calme,
            calmement, doux, douce, doucement, tranquille, tendre, detendu, fatigue, paisible, tranquilo, tranquila, suave, suavemente,
            relajado, relajada, calmado, calmada, cansado""",
        "very low": """
            lifeless, comatose, zombie, barely awake, almost motionless, motionless, almost asleep, nearly asleep, fall asleep, dead
            tired, dead battery, half dead""",
    },
    "speed": {
        "scale": """
            speed, tempo, pace, velocity, joint velocity, mean velocity, playback, bpm | geschwindigkeit, vitesse, velocidad,
            ritmo""",
        "very high": """
            lightning, lightning fast, rocket, bullet, blazing, blazing fast, breakneck, cheetah, hummingbird, racing car, race car,
            racecar, formula one, speed of light, full speed, top speed, supersonic, turbo, warp speed, prestissimo, speed demon,
            roadrunner | blitzschnell, pfeilschnell, a toute vitesse, a toda velocidad, fast as lightning, in fast forward""",
        "high": """
            fast, quick, rapid, rapidly, at run, twice as fast, double speed, 2x speed, speeded up, sped up, pacy, fleet, fleet footed,
            zippy, get move on, chop chop, make it snappy, pedal to metal, step on gas, running late, fast as wind, quicken, run like wind, no dawdling, without delay, high tempo, speedy, swift, brisk, hurry, hurried, hurry up, rush, rushed,
            haste, hasty, race, hectic, urgent, zoom, sprint, double time, speed up, speed it up, pick up pace, pick up tempo, pick up
            speed, up tempo, uptempo, fast paced, fast forward, accelerate, step on it, snappy, nimble, chase, chased, late for, bus to
            catch, train to catch, frantic, frenetic, frenzied, frenzy, dash, flash, bee, busy | schnell, flott, rasch, zugig, rapide,
            rapidement, vite, rapido, rapida, rapidos, rapidas, veloz, deprisa, allegro, vivace, presto""",
        "low": """
            slow, slowly, slow and steady, slow and steady wins race, what's rush, half as fast, half the speed, slowed, plod, plodding, trudge, loiter, lag, lagging, at leisure, no need to
            hurry, unhurried, larghetto, lentissimo, ponderous, tai chi speed, ketchup, oil tanker, in slow, leisurely, take time, take
            all time, slow down, slow it down, slow paced, no hurry, no rush, not in hurry, without hurry, without haste, linger, crawl,
            creep, dawdle, half speed, half time, half tempo, down tempo, downtempo, treacle, syrup, drag, stroll, saunter, amble, languid,
            decelerate, drawn out, sustained, adagio, largo, lento, underwater, under water, honey, walking pace, mud, quicksand, wade,
            turtle, tortoise, time stood still, all time in world | langsam, langsame, gemachlich, lent, lente, lentement, lenta, lentos,
            lentas, lentamente, despacio, despacito, pausado""",
        "slightly low": "andante, moderato",
        "very low": """
            slow motion, slowmotion, slowmo, slow mo, snail, sloth, molasses, glacial, glacially, glacier, frame by frame, paint dry,
            snail's pace | zeitlupe, ralenti, au ralenti, camara lenta, matrix, continental drift""",
    },
    "travel": {
        "scale": "distance, mobility",
        "dial": """
            travel, root motion, root displacement, root translation, trajectory, travel distance, floor coverage, ground coverage,
            displacement, locomotion, floor use, use of floor, use of space, use of room""",
        "done": """
            travel, move around, move about, roam, wander, run around, run about, go places, change place, change position, cover ground,
            cover distance, walk around, walk about, leave spot, leave place, move from spot, move from place, move off spot, move away,
            go far, travel far, relocate, drift around, locomote, step off spot, budge, stray, go anywhere, move feet, move legs, leave square | deplacement, se deplacer, desplazarse, desplazamiento,
            fortbewegen""",
        "high": """
            across, circle room, circle floor, circle hall, circle stage, every inch of stage, every inch of floor, every inch, from left to right, floor patterns, parade, big circles, conquer floor, conquer stage, all directions, every
            direction, across room, across floor, across stage, across dance floor, across hall, all across, all over, all over place, all
            around room, around room, around floor, around stage, around dance floor, around hall, around ballroom, around place, around
            whole, around entire, around house, use whole, use entire, use all of, use all, use every, use space, use floor, use room, use
            stage, use full, whole room, whole floor, whole stage, whole dance floor, whole hall, whole space, whole ballroom, whole area,
            whole house, entire floor, entire room, entire stage, entire dance floor, entire hall, entire space, full floor, full stage,
            full room, every corner, fill room, fill stage, fill floor, fill hall, through room, through whole, through hall, through
            space, everywhere, cover floor, cover room, cover stage, cover lot of ground, lots of ground, lot of ground, corner to corner,
            wall to wall, end to end, one end to other, from one end, one side to other, from one side, one corner to other, from one
            corner, skate, skater, ice skater, ice skate, ice rink, on ice, sweep across, laps, do laps, explore, eat up space, eat up
            floor, far and wide, on the move, cross floor, cross room, cross stage, crossing, sail, globetrotter, traveller, nomad, space
            eating | grands pas, grand pas, durch den raum, durch den ganzen raum, ganzen raum, ganzen saal, ganze tanzflache, ganze flache, viel raum, tout l
            espace, toute la piste, toute la salle, traverser, por toda la pista, por todo el salon, toda la sala, por todo, recorrer,
            recorriendo""",
        "low": """
            on spot, feet still, still feet, legs still, still legs, feet planted, at origin, in frame, within frame, inside frame, camera frame, within camera frame, in shot, on mark, on mat, in
            small circle, within square, one square, square metre, square meter, by chair, near chair, next to chair, around chair, near
            me, near wall, close by, nearby, inside circle, on table, table top, tabletop, bathtub, bus stop, on one spot, on same spot,
            in place, in one place, in same place, one spot, one place, same spot, single spot, stay put, stay where, stay there, stay
            here, stay near, stay close to, stationary, stuck, static, rooted, planted, glued, nailed, phone booth, telephone booth, small
            space, tiny space, little space, no space, limited space, tight space, confined, confined space, on tile, on one tile, one
            tile, dinner plate, postage stamp, beer mat, on coin, on dime, on spot please, stand still, standing still, stay still, hold
            position, hold ground, same position, one position, stay in middle, stay in center, stay in centre, stay in corner, stay
            centred, stay centered, close to center, close to centre, crowded, in crowd, packed, elevator, closet, space is limited, space is tight,
            not much space, not much room, little room, no room, hardly any space, hardly any room, lamppost, tree trunk, anchored, anchor
            | petits pas, auf der stelle, am platz, auf dem platz, sur place, en el sitio, en el mismo sitio, en un solo lugar, sin moverse""",
        "very low": "feet nailed, feet superglued, set in concrete, feet in concrete, in cement",
    },
    "turns": {
        "done": """
            turn, spin, angular velocity, 360, full circle, twirl, rotate, rotation, pirouette, whirl, revolve, revolution, pivot, swirl,
            turn around, spin around, whirl around, twirl around, turn round, round and round, round in circles, go round, circle, in
            circles, circling, gyrate, gyration, merry go round, carousel, make me dizzy, make you dizzy, until dizzy, chaine, fouette, twist, rotational, spiral, loop the
            loop | drehung, drehungen, drehen, dreh, dreht, im kreis, wirbeln, tour, tours, tourner, tourne, tournes, tournoyer, vuelta,
            vueltas, giro, giros, girar, girando""",
        "high": "swirly, twirly, spinny",
        "very high": """
            spinning top, spin top, like top, whirlwind, tornado, dervish, whirling dervish, hurricane, cyclone, washing machine, ferris
            wheel, helicopter, propeller, gyroscope, turntable, fidget spinner, corkscrew, twister, vinyl record, record player,
            roundabout, teacup ride, vortex, whirlpool, windmill, sufi, beyblade, music box, ceiling fan, tumble dryer, spin dryer,
            dreidel | kreisel, toupie, peonza, vertigo""",
        "low": """
            face front, face forward, face audience, face camera, face me, face us, face crowd, face same way, face one way, face one
            direction, one direction, same direction, look at camera, look at audience, eyes on audience, stay facing, keep facing,
            straight lines, straight line, straight ahead, straight on, not turn back on, never show back, turn back on, towards audience,
            towards camera, toward audience, toward camera | nach vorn, nach vorne, de face, de frente, frontal""",
    },
    "arm_height": {
        "dial": """
            arm height, arm elevation, hand elevation, elevation of arms, elevation of hands, hand height, height of arms, height of
            hands, arm level""",
        "scale": "height",
        "done": """
            raise arms, raise hands, leave sides, leave side, leave hips, reach high, reach higher, hands on head, hands behind head, hands up in air, arms up in air, arms to ceiling, hands to ceiling, towards ceiling, toward ceiling, towards sky, toward sky, to
            clouds, to heavens, to moon, to roof, hang laundry, hang washing, hands to heaven, celebrate goal, just don't care, arms
            skyward, wave arms, overhead reach, fetch from top shelf, top shelf, high five, arms reach up, raised arms, raised hands, lift
            arms, lift hands, lifted arms, lifted hands, arms raise, hands raise, arms lift, hands lift, arms rise, arms in air, hands in
            air, hands up, arms up, up in air, arms overhead, hands overhead, arms over head, hands over head, arms above head, hands
            above head, arms above shoulders, hands above shoulders, arms over shoulders, arms go up, reach up, reach upward, reach for
            sky, reach for stars, reach for ceiling, reach for heaven, reach sky, reach to sky, reach to ceiling, stretch up, stretch to
            sky, stretch to ceiling, touch ceiling, touch sky, touch stars, grab stars, to sky, to ceiling, to heaven, to stars, at
            ceiling, pick apples, throw hands up, put hands up, wave hands, over head, above head, overhead, above waist, above hips,
            above chest, above belly, above shoulders, above shoulder height, above shoulder level, raise roof, hallelujah, change light
            bulb, hands to sky, praise, surrender, fifth position, y shape | arme hoch, arme nach oben, arme heben, hande hoch, haende
            hoch, hande heben, bras en l air, bras leves, lever bras, lever les bras, levez les bras, bras hauts, bras vers haut, mains en
            l air, brazos arriba, manos arriba, brazos altos, brazos en alto, manos en alto, levantar brazos, brazos levantados""",
        "high": "arms like ballerina, ballerina arms, ballet arms",
        "low": """
            near hips, arms up to waist, hands up to waist, only to waist, only to hips, reach low, reach down, close to hips, close to legs, next to hips, next to body, by hips, at hips, on hips, near legs, arms near floor,
            tied to sides, behind back, glued to sides, at sides, by sides, by side, at side, arms at sides, arms by sides, arms by side,
            hands at sides, hands by sides, hands in pockets, in pockets, arms hang, hanging arms, arms hanging, let arms hang, arms
            dangle, dangling arms, arms below, hands below, arms under, hands under, below shoulders, below chest, below waist, below
            hips, below shoulder height, under shoulders, hands on hips, hands on waist, waist height, hip height, waist high, hip level,
            waist level, at hip level, at waist level, at hip height, at waist height, drop arms, drop hands, lower arms, lower hands,
            lowered arms, arms lowered, arms no higher than, never higher than, lower than shoulders, lower than waist, hands no higher
            than, no higher than, not higher than, not above, never above, riverdance, heavy arms, arms heavy, arms drop, arms fall, arms
            resting | arme unten, arme runter, arme nach unten, bras en bas, bras baisses, bras le long, brazos abajo, brazos bajos""",
    },
    "bounce": {
        "dial": """
            bounce, bounciness, jump height, rise and fall, rising and falling, springiness, vertical movement, vertical motion, up and
            down movement, up and down motion""",
        "done": """
            bounce, bob, knees high, leave ground, leave floor, get off ground, vertical oscillation, vertical displacement, ballon, high knees, airtime, air time, gallop, trot, hopscotch, skip
            rope, jump rope, skipping rope, squat, pogo, jump, hop, skip, leap, leapt, up and down, spring, jiggle, rise and fall, rise
            fall, knee bend, bend knees, plie, body rise, body bob, jump around, jump about, hop around, hop about, bounce around, bounce
            about, bounce up and down, jump up and down, go up and down, move up and down, jumping up and down, bobble | hupfen, huepfen,
            hupfe, springen, sprunge, sprung, spruenge, hopsen, wippen, auf und ab, saut, sauter, saute, sautiller, rebond, rebondir, de
            haut en bas, salto, saltos, saltar, salta, saltando, rebote, rebotes, rebotar, brincar, brinco, brincos, arriba y abajo""",
        "high": """
            bouncy, bouncily, lamb, gazelle, basketball, tennis ball, boing, space hopper, spring loaded, pony, jack in box, flubber,
            bounce house, springy, bubbly, jumpy, trampoline, rabbit, bunny, bunnies, kangaroo, frog, grasshopper, flea, pogo stick,
            rubber ball, bouncing ball, bouncy ball, rubber, bouncy castle, popcorn, ping pong, ping pong ball, on springs, springs in
            shoes, springs under, spring in step | flummi, federnd, hupfend, sautillant, saltarin, skippy, lilting, cork in water""",
        "very high": "jumping jack, jumping bean, yo yo, mosh, moshing",
        "low": """
            smooth, smoothly, low impact, no impact, sole on floor, soles on floor, feet flat, in contact with floor, even keeled, tray,
            carrying tray, egg on spoon, stay down, stay low, butter, buttery, silky, curling stone, conveyor belt, escalator, cable car,
            seamless, head stays level, heads stay level, glide, slide, float, hover, grounded, earthbound, low to ground, low to floor, close to ground, close to
            floor, stay on ground, feet on ground, feet on floor, keep feet on ground, keep feet on floor, head level, level head, same
            height, same level, one height, one level, constant height, steady height, flat footed, book on head, glass of water, full
            glass, tray of drinks, cup of tea, swan, on rails, on wheels, roller skates, steam iron, still head, head still, quiet head |
            gleiten, gleitend, geschmeidig, fliessend, glisser, glisse, glissant, deslizar, desliza, deslizando, deslizarse""",
        "very low": "perfectly level, perfectly flat, dead level, dead flat, completely level, completely flat",
    },
    "expansion": {
        "scale": "range, width, reach, size, amplitude, extension",
        "dial": """
            expansion, bounding box, reach envelope, joint range, range of motion, openness, wingspan, size of movements, kinesphere""",
        "high": """
            wide, widely, fill frame, whole frame, elongated, elongate, allonge, lengthen, lengthened, wings, like giant, octopus, sprawl,
            sprawling, stand tall, make it big, go big, think big, big top, lavish, flamboyant, unrestrained, splayed, wide stance,
            musical theatre, windmill arms, scarecrow, all limbs out, broad, broadly, expansive, open, open up, outstretched, stretch,
            stretched, stretch out, out to sides, out to side, arms everywhere, hands everywhere, spread, spread out, spread wings, arms wide, arms out, arms spread, arms apart, arms outstretched,
            arms open, open arms, wide open, extend, extended, reach out, sweeping, sweep, grand, grandiose, larger than life, spacious,
            roomy, generous, oversized, exaggerate, exaggerated, theatrical, majestic, bold, take up space, take up all space, take up
            lots of space, take up lot of space, take up room, lots of space, lot of space, much space, fill space, occupy space, make
            yourself big, eagle, albatross, condor, peacock, airplane, aeroplane, starfish, star shape, full range, full extension, back
            row, last row, hug world, hug whole world, embrace world, open body, open chest, spread like, unfold, bloom, blossom, larger,
            big gestures | ausgebreitet, weit, weite, breit, breite, offen, offene, offenen, ausladend, ausladende, raumgreifend, gross, ample, amples,
            large, larges, ouvert, ouverts, ouverte, etendu, amplio, amplia, amplios, amplias, abierto, abierta, abiertos, abiertas,
            ancho, anchos""",
        "low": """
            narrow, narrowly, arms still, still arms, hands still, still hands, quiet arms, quiet hands, pocket sized, airplane seat, plane seat, economy class, t rex, dinosaur arms, hug yourself, drawn in, pulled
            in, pull in, draw in, self contained, knees together, hold close, kept close, keep close, glued to body, arms crossed, arms
            folded, folded arms, crossed arms, wallflower, turtle shell, hedgehog, snail shell, ball of wool, fetal, foetal, straitjacket,
            corset, tight dress, pencil skirt, phone box, shrug, unobtrusive, inconspicuous, nobody notices, small bubble, hamster, baby
            steps, compact, tight, tightly, contract, contracted, contain, contained, minimal, minimalist, minimalistic, minimally,
            subtle, subtly, modest, modestly, restrained, discreet, discreetly, understated, shy, shyly, timid, timidly, introverted,
            close to body, near body, tight to body, arms in, arms close, arms tight, elbows in, elbows close, tuck, tucked, tuck in,
            curl, curled, curl up, curl into, crouch, huddle, hunch, closed, close in, closed off, folded, fold in, shrink, shrunk, mouse,
            mousy, make yourself small, miniature, in miniature, inside box, in box, shoebox, sardine, cramped, economical, withdrawn,
            inward, cocoon, reserved, vanish, hide, hiding, confined, limited | eng, enge, schmal, kompakt, dezent, zuruckhaltend, serre,
            serres, etroit, discret, cerrado, cerrada, estrecho, recogido""",
        "very low": """
            microscopic, imperceptible, invisible, barely visible, hardly visible, minuscule, teeny, itsy bitsy, tiniest""",
    },
}
# Words whose meaning depends on what they are said of: "big arms", "big steps", "high energy", "high arms".
SIZES: dict[str, str] = {
    "big": """
        big, large, huge, giant, massive, immense, great big, grand | gross, grosse, grossen, grosser, grosses, grands, grande, grandes,
        enormous, gigantic, colossal, humongous, ginormous""",
    "small": """
        small, little, tiny, mini, wee | klein, kleine, kleinen, kleiner, kleines, petit, petits, petite, petites, pequeno, pequenos,
        pequena, pequenas""",
    "slight": "minimal, contained, restrained, limited, subtle, modest, reduced, controlled",
    "long": "long | lang, lange, langen, largo, largos, largas, longue, longues",
    "short": "short | kurz, kurze, kurzen, court, courts, courte, corto, cortos, cortas",
    "up": """
        high, up, raise, raised, lift, lifted, elevated, upward | hoch, hohe, hohen, hoher, oben, haut, hauts, haute, hautes, leves, alto,
        alta, altos, altas, arriba, levantados""",
    "down": """
        low, lo, down, lowered, dropped, downward, hanging | tief, tiefe, niedrig, niedrige, unten, runter, bas, basse, baisses, bajo, baja,
        bajos, bajas, abajo""",
}
NOUNS: dict[str, str] = {
    "arms": """
        arm, hand, move arms, move hands, elbow, wrist, finger, palm, arm movement, arm motion, arm gesture, arm line, port de bras,
        armwork | arme, armen, hande, haende, bras, brazos, manos""",
    "steps": "step, stride, footstep, lunge, footwork | schritt, schritte, schritten, pas de danse, paso, pasos",
    "moves": """
        movement, move, motion, gesture, shape, line, pose, figure, silhouette, form, everything, body, posture | bewegung, bewegungen,
        mouvement, mouvements, geste, gestes, movimiento, movimientos, gesto, gestos""",
    "places": """
        room, hall, stage, floor, floor space, floor area, dance floor, space, area, ballroom, kitchen, apartment, house, place, corridor,
        garden, field, footprint | raum, saal, buhne, salle, piste, sala, pista, salon""",
}
OF_NOUNS: dict[tuple[str, str], tuple[str, int]] = {  # the attribute, and whether it is high or low
    **{(size, noun): ("expansion", 1) for size in ("big", "long") for noun in ("arms", "moves")},
    **{(size, noun): ("expansion", -1) for size in ("small", "slight", "short") for noun in ("arms", "moves")},
    **{(size, "steps"): ("travel", 1) for size in ("big", "long")},
    **{(size, "steps"): ("travel", -1) for size in ("small", "slight", "short")},
    ("big", "places"): ("travel", 1),
    ("small", "places"): ("travel", -1),
    ("slight", "places"): ("travel", -1),
    ("up", "arms"): ("arm_height", 1),
    ("down", "arms"): ("arm_height", -1),
    ("up", "steps"): ("bounce", 1),
    ("big", ""): ("expansion", 1),
    ("small", ""): ("expansion", -1),
    ("slight", ""): ("expansion", -1),
}
# Degrees of what is done, only directly before it: "a soft bounce", "heavy turns"; adverbs also before the rest: "modestly low". Those of
# "very" are degrees before a quality: "crazy fast".
STRENGTHS: dict[str, str] = {
    "slightly": "soft, gentle, light, mild, faint, subtle, modest, delicate, weak, minimal",
    "many": "strong, heavy, hard, intense, powerful, deep, pronounced, vigorous",
    "very": "crazy, insane, mad, stupid, wicked, dead, silly",
}
# Parts of the body that can move by themselves.
PARTS: dict[str, str] = {
    "arms": "arms hands elbows wrists fingers",
    "feet": "feet foot legs root pelvis",
    "others": "head hips shoulders knees ankles neck chest torso waist",
}
# What people call the genres, beside their own names.
GENRES: dict[str, str] = {
    "waltz": """
        waltz, waltzy, valse | walzer, vals, valz, english waltz, viennese waltz, viennese, walts, valtz, wiener walzer, valse viennoise,
        three four time, three quarter time, 3/4, 3/4 time""",
    "tango": "tango, argentine tango, tango argentino, milonga",
    "rumba": "rumba, rhumba",
    "chacha": "chacha, cha cha, cha cha cha, chachacha",
}
# Dances that are reported as a whole where a model does not know them, and are never taken for misspelt words.
OTHER_DANCES = """
    salsa, samba, bachata, merengue, mambo, jive, swing, lindy hop, lindy, quickstep, foxtrot, fox trot, slow foxtrot, slow
    fox, slowfox, paso doble, pasodoble, flamenco, ballet, tap, tap dance, hip hop, hiphop, breakdance, break dance, breaking, krump,
    krumping, popping, locking, popping and locking, pop and lock, vogue, voguing, jazz, jazz dance, house dance, disco, polka, mazurka,
    minuet, line dance, square dance, folk dance, belly dance, bellydance, pole dance, contemporary, modern dance, k pop, kpop, zumba,
    macarena, moonwalk, twerk, shuffle, charleston, boogie, boogie woogie, rock and roll, rock n roll, reggaeton, kizomba, zouk, lambada,
    bollywood, bhangra, capoeira, hula, cancan, can can, conga, limbo, robot dance, floss, dab, gangnam style, bossa nova, cumbia,
    discofox, disco fox, irish dance, clogging, morris dance, west coast swing, headbang, cha cha slide, dougie, forro, haka, sirtaki,
    bolero"""
# Phrases with words from above that have nothing to do with how to dance; reported as a whole.
OTHER_PHRASES = """
    light on feet, foot sliding, foot slide, foot skating, foot skate, high quality, low quality, high resolution, low resolution, high res, low res,
    high definition, low poly, high poly, high heels, high heel, on other hand, give hand, helping hand, round of applause, take turns,
    turn off lights, turn on lights, open mind, eyes closed, eyes open, closed eyes,
    open eyes, big fan, huge fan, big thanks, big band, big smile, wide shot, wide angle, long shot, close up, zoom in, zoom out,
    high notes, low notes, high note, low note, light blue, red light, time of life, have fun"""
SECTIONS: dict[str, str] = {  # parts of a dance that can be named in place of seconds
    "start": """
        start, beginning, begin, opening part, opening bars, open with, open as, intro, introduction, outset, first part, first quarter,
        first third, first bars, first of all, at first | anfang, beginn, zuerst, debut, commencer, commence, d abord, principio,
        comienzo, inicio, empezar, empieza""",
    "first half": "first half, 1st half | erste halfte, ersten halfte, premiere moitie, primera mitad",
    "middle": """
        middle, halfway through, middle part, middle section, mid section | mitte, milieu, medio de la cancion, mitad""",
    "second half": """
        second half, 2nd half, other half, latter half, for second, in second, last half, back half, halfway, half way, midway, mid way,
        midpoint, half time mark, second part | zweite halfte, zweiten halfte, halfte, seconde moitie, deuxieme moitie, segunda mitad""",
    "end": """
        end, ending, end as, end with, end in, finish, finish with, finale, grand finale, close with, closing part, outro, last part, last
        third, last quarter, final part, last bars, conclude, coda | ende, schluss, zum schluss, fin, finir, termine, terminer, al final,
        final, termina, terminar""",
    "chorus": """
        chorus, refrain, hook, at drop, for drop, in drop, during drop, when drop, on drop, drop hits, drop comes, drop starts, after
        drop, beat drop, climax, loudest part, loud part | estribillo, coro""",
}
# The words of the grammar.
GRAMMAR: dict[str, str] = {
    "very": """
        very, really, hella, painfully, terribly, awfully, bloody, super, super duper, extremely, ultra, so, totally, absolutely, incredibly, hugely, insanely, wildly, highly, way,
        much, far, even, seriously, mega, truly, completely, utterly, ridiculously, exceptionally, exceedingly, unbelievably, remarkably,
        oh so, noticeably, significantly, considerably, clearly | sehr, richtig, total, unglaublich, tres, vraiment, extremement, muy,
        mucho mas, viel mehr, beaucoup plus, deutlich""",
    "slightly": """
        slightly, one or two, two or three, the odd, odd, a notch, notch, a fraction, a bit, a little bit, a little, little bit, a wee
        bit, wee bit, a tad, tad, somewhat, a touch, a hint, a dash, a smidge, a smidgen, kind of, kinda, sort of, sorta, mildly, a shade,
        marginally, just a bit, just a little, a few, a couple, a couple of, some, several, now and then, every now and then, sometimes,
        occasionally, occasional, from time to time, once in a while, here and there, a bit of, a little bit of, a little of, a touch of,
        a hint of, a dash of, a pinch of, a splash of, a drop of, a sprinkle of, a spot of, a trace of, a smidge of, a tiny bit, a tiny
        bit of, a shade of, a suggestion of, a taste of, a flavour of, a flavor of, touch of, hint of, dash of, bit of, pinch of, splash
        of, elements of, some elements of, spiced with, peppered with, sprinkled with, seasoned with, garnished with | ein bisschen,
        bisschen, etwas, ein wenig, leicht, ab und zu, ein paar, einem hauch, einen hauch, un peu, un peu de, legerement, parfois,
        quelques, une touche de, un soupcon de, un poco, un poco de, algo, un toque de, a veces, algunos, algunas, unas, unos""",
    "rather": "quite, pretty, rather, fairly, reasonably, relatively, decently | ziemlich, assez, bastante, plutot",
    "more": """
        more, increase, increased, add more, add, additional, boost, double, twice, twice as many, twice as much, triple, doubled, crank up, pump up, step up,
        kick up, go heavier on, amp up,
        ramp up, dial up, bring up, greater, turn up, extra | mehr, plus de, plus, davantage, mas, mas de, aumenta""",
    "less": """
        less, fewer, lesser, cut, cut out, tame, reduce, half as many, half as much, reduced, decrease, cut down on, cut back on, cut
        down, cut back, minimise, minimize, limit, turn down, dial down, dial back, tone down, ease off on, ease off, ease up on, go easy
        on, easy on, go light on, go easy with, easy with, chill on, chill with, chill out on, chill out with, calm down on, calm down with,
        relax on, relax with, cool it on, cool it with, hold back on, hold back with, hold off on, light on, lighter on, lay off, lay off on, back off on,
        ease up with, take it easy on, take it easy with, tone it down on, tone it down with, dial it back on, scale back, scale down, bring down | weniger, moins de, moins, menos, menos de, reduire""",
    "many": """
        many, numerous, at least, a lot of, a lot, lot of, lots, lots of, plenty, plenty of, loads, loads of, tons, tons of, a ton of, heaps of,
        bunch of, a bunch of, full of, packed with, filled with, dozens of, abundant, frequent, often, heavy on, big on, all about,
        repeated, again and again, over and over, quite a few, quite a lot, quite a lot of, great deal of, a great deal, so much, so many,
        that much, that many, all that, tanto, tanta, tantos, tantas | viel, viele, vielen, jede menge, beaucoup, beaucoup de, plein de,
        mucho, mucha, muchos, muchas, oft, souvent""",
    "always": """
        constant, galore, off charts, through roof, like crazy, like mad, like no tomorrow, like there's no tomorrow, like there is no tomorrow, like never before, more than ever, until you drop, till you drop, never stop, never stopping, do not stop, don't stop, does not stop, doesn't stop,
        without stopping, without stop, without break, without pause, no break, can't stop, cannot stop, all the time, always, non stop,
        nonstop, continuous, continually, continual, incessant, endless, endlessly, nothing but, maximum, maximal, maximise, maximize,
        max, max out, to max, as much as possible, as many as possible, as possible, as you can, as can be, as it gets, countless, most,
        extreme | immer, standig, toujours, sans arret, siempre, sin parar, maximo, permanent""",
    "few": """
        few, just one, only one, once or twice, once or twice only, just once, only once, just twice, only twice, just two, only two, a single, very few, not many, not much, hardly any, hardly, barely any, barely, scarcely, scarcely any,
        rarely, rare, seldom, little to no, almost no, almost never, almost without, next to no, practically no, virtually no, only a few,
        just a few, only a couple of, just a couple of, only some, only occasional, only occasionally, very little | wenig, wenige, kaum,
        peu de, peu, a peine, poco, poca, pocos, pocas, apenas, casi sin, sparse, sparing, sparingly, low on, low in, infrequent, only
        rarely, only sometimes""",
    "least": """
        minimum, minimum of, a minimum of, min, as little as possible, as few as possible, least, the least | minimo""",
    "usual": """
        usual, normal, average, medium, moderate, regular, ordinary, standard, default, neutral, mid, unchanged, as usual, as before, same
        as before, as is, unaltered, as it is, like before, typical | normale, mittlere, mittel, mittleres, moyen, moyenne, medio, media,
        intermediate""",
    "not": """
        not, neither, nor, isn't, aren't, wasn't, ain't, nothing too, nothing so, nothing very | nicht, pas, far from, anything but,
        everything but, all but, rather than, instead of, other than, in place of, except, except for, apart from, statt, opposite of, exact opposite of, au lieu de, en
        vez de, not exactly, by no means""",
    "no": """
        no, nope, kill, nix, scrap, remove, delete, disable, eliminate, get rid of, do away with, without, without any, zero, none, none of, minus, do not, don't, dont, doesn't, doesnt, does not, didn't, did not, can't,
        cannot, can not, should not, shouldn't, must not, mustn't, won't, will not, wouldn't, never, never ever, avoid, quit, cease, lose
        the, forget, forget about, leave out, omit, ditch, ban, exclude, refrain from, stay away from, keep away from, steer clear of,
        free of, not a single, not one, not any, not even one, not even a, nothing, no more, sick of, not a fan of, no fan of, not fond
        of, not keen on, fed up with, could do without, can do without, not into, spare me, not interested in, tired of, enough of, enough
        with, hate, dislike, absolutely no, stop, skip all, skip any, not at all, devoid of, lack of, lacking | kein, keine, keinen,
        keiner, ohne, nie, niemals, pas de, sans, aucun, aucune, jamais, sin, ningun, ninguna, nunca, nada de""",
    "too": """
        too, too much, too many, overly, excessively, excessive | zu, zu viel, zu viele, trop, trop de, demasiado, demasiada, demasiados,
        allzu, tan""",
    "or": "or | oder, ou",
    "and": "and | und, et, y, as well as, along with, together with, n",
    "but": """
        but, yet, however, though, although, except that | aber, sondern, mais, pero, sino, otherwise, while, whereas, because, since, so
        that, where, in which, which, who, hence""",
    "with": "with | mit, avec, con, having, including, featuring, for",
    "then": """
        then, and then, afterwards, afterward, after that, later on, later, followed by, turning into, turn into, becoming, become, change
        to, change into, change over to, switch to, switch into, switch over to, switch, go into, move into, move to, morph into,
        transition to, transition into, transform into, develop into, evolve into, melt into, go over to, flow into, next | dann, danach,
        anschliessend, puis, ensuite, apres, luego, despues, comes, arrives, leads to, leading to, into""",
    "until": "until, till, til, up to, up until, before | bis, bis zum, jusqu au, jusqu a, hasta, hasta el",
    "after": "after | nach, nach dem, apres le, despues del, despues de, past",
    "back": "back to, return to, back into, back | zuruck zu, zuruck, retour a, de vuelta",
    "rest": """
        rest, the rest, everything else, for the rest, the remainder, rest of it, rest of the time, rest of the song, rest of the dance,
        all else, everywhere else, elsewhere | sonst, le reste, el resto""",
    "mix": """
        mix, mixture, blend, fusion, cross between, combination, combine, hybrid, mash up, mashup, between, somewhere between, meets,
        crossed with, equal parts, equally, equal, fifty fifty | melange, mezcla, mischung, merge, fuse, halfway between, half way between""",
    "whole": """
        throughout, the whole time, whole time, the entire time, entire time, most of the time, from start to finish, start to finish,
        from beginning to end, beginning to end, from start to end, start to end, from first to last, all the way, all the way through,
        from head to toe""",
    "to": "to",
    "share": """
        half, half of | halb, moitie, third, two thirds, one third, 1/3, 2/3, 1/2, quarter, three quarters, one quarter, 1/4, 3 quarters""",
    "hint": """
        influence, influences, accent, accents, flair, flavour, flavor, flavoured, flavored, undertone, undertones, elements, tinge, twist
        of, inspired, ish, moments, seasoning, spice, interlude""",
    "mostly": """
        mostly, mainly, primarily, predominantly, largely, chiefly, almost all, above all, for the most part, basically, essentially,
        principally | hauptsachlich, uberwiegend, surtout, principalement, principalmente, sobre todo, predominant""",
}
# Words that say nothing about how to dance, and are not reported.
FILLERS = """
    idk previous root timing pretend af enable insert zone aplenty u ur y'all yall bro dudes mate ahead freely anywhere somewhere two three four five six seven eight nine ten hundred upper lower-body walk walking throw toss sprinkle within inside right a an the
    this that these those there here it its it's i i'm im me my mine you your yours he him his she her hers we us our ours they them their
    theirs one ones someone somebody anyone anybody everybody everyone people is are was were be been being am did do does done doing have
    has had can could would should will shall might may must let lets let's make made give gave get got gimme gonna wanna go gone went
    keep kept stay hold held remain put take took come came try show need want wish like love prefer look think feel felt seem use bring
    create generate produce perform play act behave imagine picture please pls plz thanks thank thx hi hello hey dear ok okay yes yeah yep
    well oh um uh erm hmm eh lol haha ha sorry maybe perhaps possibly probably whether when as than such of in on at by to from into onto
    over under about around through during along among up down out off away near also just only still again ever once same all any both
    either each every other another else see type style manner sort kind way ways piece part thing something anything stuff lot amount
    level degree number quality dance dancing danced dancer choreography choreo routine performance song music musical track tune beat
    rhythm sound soundtrack mood vibe feeling character version video clip animation motion movement move person body guy girl man woman
    lady avatar figure dude couple performer good nice great cool fine beautiful beautifully lovely pretty perfect perfectly best better
    wonderful amazing awesome fantastic simple simply overall general generally actually definitely certainly surely today now time times
    moment second minute first last finally before after until whole entire full main new own little sure enough quite almost nearly
    entirely what how why where who whose whatever however whenever i'd i'll i've you'd you'll you're we'd we'll we're he's she's that's
    there's what's it'll ask tell say said mean means call watch work happen start begin end change changes basically whatsoever at's
    itself yourself themselves himself herself ourselves bit bits used noticeable super goes because since so and or but with if for while
    which carry carried carrying feet foot leg legs head knees knee genre attribute attributes set setting bpm kinda readable bitte danke bleib bleiben
    ich du er sie es wir ihr mich mir dich dir uns ein eine einen einem einer eines der die das den dem des fur fuer auf zur von vom bei
    ist sind war sein soll sollte sollen mochte moechte mag wollen haben habe mache macht tanz tanze tanzen tanzt tanzer musik lied wie
    ganz mal doch noch schon auch nur dabei dazu wenn alles alle uber durch da gib geben gern gerne lass s'il vous plait svp merci je tu
    il elle nous ils elles moi toi une un le la les l d de au aux en dans sur par pour qui que ce cette cet ces mon ma mes ton ta tes son
    sa ses est sont etre avoir fait faire fais faites veux veut voudrais voudrait aimerais danse danser dansez dansons musique chanson
    comme tout toute tous toutes bien c'est j'aimerais por favor gracias yo el ella lo los las del al para o ser estar esta este esto mi
    mis su sus quiero quisiera gustaria te se nos baile bailar baila bailando cancion haz hacer todo toda todos todas asi"""
# Everyday words that are near to one of the words above, but are no misspelt ones.
OTHER_WORDS = frozenset(
    """
    able awful badge blood bubble budget closest hell krill painful scrape terrible flashy stomp mars rams accelerator accidents alps alter arena arise avid balloon barley batter battery became bend benny beta bets bing black bland
    blind blond boast boeing bong boom boot boots boxing boyd brad bread bred brody burt bust busting butterfly buys chilli chilly chores
    chose cindy coach comprised condo conor constrained construct constructed consultant contact contacted contestant continued continues
    contractor contradict couch countess craze crease creepy cured curly derive discredit dive donut dose dozen driver drown duplicate
    dutch electrical electronic enthusiast event expensive fail fairy farce fatal fats favour favoured feast fiat filed finnish flat flee
    flesh flour flush forge forgot forty forum furry garde gloom glue grad gran grind handy hangover hardy harry heard hoover hoped hose
    intra jelly lads lamps lapse late latter leads lest licking lighting linen locomotive logging lost lotus lounge mandy mania manic
    manny marry meats mediation medication megan menus mets microscope moderation moderator modes moist monuments moore moose morse movie
    muse neural norma nothin overheard palace parity pasture patent payback peace petty phony picked pile pinch plaid plated powder
    propelled prose psalm quote rabbi racket raid rally ranger raped raven reasonable regulator reich reilly replicate reset resolution
    revelation revolver rise roach robber roma routed sage seat seed seize serena shirt shot side silk slick slot smell sofia spacex spain
    spicy stack star stat stationery steep steph stick stock story strengthen string struck strung stuart suck sued supper swat sweet tang
    tata teen temp thought three tied tinder toad tones topical tough towns tracy tried trigger trout truck turin unclear undergone vale
    vase walt wear willy wins witch withdraw withdrawing writ
    """.split()
)
